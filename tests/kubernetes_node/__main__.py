"""Starts the cluster: ``python -m tests.kubernetes_node config.json``; see the package."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from aiohttp import web

from tests.kubernetes_node.api import Cluster, Server
from tests.kubernetes_node.config import Config


async def serve(config: Config) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def watch_stdin() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch_stdin, daemon=True).start()
    cluster = Cluster(config)
    runner = web.AppRunner(
        Server(cluster).application(),
        access_log=None,
        shutdown_timeout=0.1,
        handler_cancellation=True,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    control = asyncio.create_task(cluster.control())
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([waiting, control], return_when=asyncio.FIRST_COMPLETED)
    control.cancel()
    await cluster.kubelet.close()
    with contextlib.suppress(asyncio.CancelledError):
        await control
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(Config(**json.loads(Path(sys.argv[1]).read_text()))))
