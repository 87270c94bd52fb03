"""How many cores this process may compute with."""

import os


def cores(processes: int = 1) -> int:
    """Cores that this process may use.

    Args:
        processes: How many processes of one work run on this machine; each may use an equal part.
            Of a single one ``OMP_NUM_THREADS`` says less, as libraries have it. Launchers of
            several set that to 1 where nobody has, so that there it says nothing.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    there = len(affinity(0)) if affinity else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if processes == 1 and asked.isdigit() and int(asked):
        return min(there, int(asked))
    return max(1, there // processes)
