"""Servers of the UI that outlived the command that had started them.

``dagster dev`` starts the webserver and the daemon. Killed hard, it can't end them: the webserver
keeps the port, and the daemon goes on beside the next one's.
"""

import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]

# Modules of the servers that ``dagster dev`` starts, and the option that it alone starts them with.
_SERVERS = ("dagster_webserver", "dagster._daemon")
_STARTED_BY_DEV = "--shutdown-pipe"
_END_WITHIN_S = 5.0


def end_leftovers(instance: Path) -> list[str]:
    """End the servers of an instance's folder whose ``dagster dev`` is gone.

    Returns:
        A sentence for each process that was ended.
    """
    servers = [process for process in psutil.process_iter() if _is_left_over(process, instance)]
    for process in servers:
        process.terminate()
    _, stubborn = psutil.wait_procs(servers, timeout=_END_WITHIN_S)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=_END_WITHIN_S)
    return [
        f"ended process {process.pid}, which a UI that was killed had left behind"
        for process in servers
    ]


def _is_left_over(process: psutil.Process, instance: Path) -> bool:
    try:
        command = process.cmdline()
        if process.pid == os.getpid() or _STARTED_BY_DEV not in command:
            return False
        if not any(server in command for server in _SERVERS):
            return False
        if process.environ().get("DAGSTER_HOME") != str(instance):
            return False
        parent = process.parent()
        return parent is None or "dev" not in parent.cmdline()
    except psutil.Error:
        return False
