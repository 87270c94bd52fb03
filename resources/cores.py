"""How many cores this process may compute with."""

import os


def cores(processes: int = 1) -> int:
    """Cores that this process may use, where so many processes share work in equal parts.

    ``OMP_NUM_THREADS`` limits a process that computes alone, as it limits numeric libraries.
    Launchers of several processes set it to 1 by themselves, so for several it says nothing.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if processes == 1 and limit.isdigit() and int(limit):
        return min(available, int(limit))
    return max(1, available // processes)
