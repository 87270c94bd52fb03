"""Waiting in such a way that an interrupt is seen soon and other processes see this one live."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from resources.llm.coordination import HEARTBEAT_S, Coordination
from resources.llm.errors import StoreError

# An interrupt is seen within so many seconds, whichever thread got the signal.
_SLICE_S = 0.5


@contextmanager
def beating(shared: Coordination) -> Iterator[None]:
    """Tell the other processes that this one lives, whatever it waits for."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_S):
            # Whoever works with a store that is in trouble reports it.
            with suppress(StoreError):
                shared.beat()

    thread = threading.Thread(target=beat, name="llm-batches", daemon=True)
    with ExitStack() as ending:
        thread.start()
        ending.callback(thread.join)
        ending.callback(ended.set)
        yield


def sleep(seconds: float) -> None:
    """Wait for a number of seconds, in short slices."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE_S))
