"""The embedded server's process: llama.cpp's OpenAI-compatible server until nobody needs it.

``resources.llm.embedded`` runs it as ``python -m resources.llm.embedded_server``. It ends when no
lease was fresh for the idle timeout, or when ``server.json`` no longer names it (its home was
removed, or another server took its place).
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from resources.cores import cores
from resources.llm.embedded import (
    CONTEXT_PER_SLOT,
    SLOTS,
    ServerInfo,
    live_leases,
    read_info,
    write_info,
)
from resources.settings import EMBEDDED_MODEL

_TICK_S = 0.5
_WARNINGS = 2


def main() -> None:
    """Serve until idle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--idle", type=float, required=True)
    arguments = parser.parse_args()
    server = _serve(arguments.model)
    url = server.listening_address
    info = ServerInfo(os.getpid(), url, str(arguments.model), arguments.idle, time.time())
    write_info(arguments.folder, info)
    print(json.dumps({"event": "serving", "url": url}), flush=True)
    _wait_until_idle(arguments.folder, arguments.idle)
    print(json.dumps({"event": "ended"}), flush=True)


def _serve(model: Path) -> Any:
    """Start the server; it serves for as long as the returned object is referenced."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {EMBEDDED_MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_PER_SLOT
    params.n_batch = 2048
    params.n_ubatch = 512
    params.cache_prompt = True
    # This cache holds prompts that left their slot; training needs the 8 GB of llama.cpp's default.
    params.cache_ram_mib = 512
    params.cpuparams.n_threads = cores()
    params.cpuparams_batch.n_threads = cores()
    params.ui = False
    # Slots would show prompts; the log holds warnings only.
    params.endpoint_slots = False
    params.verbosity = _WARNINGS
    return xllamacpp.Server(params)


def _wait_until_idle(folder: Path, idle_s: float) -> None:
    needed_at = time.monotonic()
    while time.monotonic() - needed_at < idle_s:
        time.sleep(_TICK_S)
        info = read_info(folder)
        if info is None or info.pid != os.getpid():
            return
        if live_leases(folder):
            needed_at = time.monotonic()


if __name__ == "__main__":
    main()
