"""Sends calls as fast as the endpoints allow, each once, and keeps every reply before it is seen.

Each call passes these steps: claimed (no other process sends it) → permitted by the rate limit →
within the budget → noted for an endpoint that is up → sent → kept → delivered. The note stands as
long as the call is in flight, and the reply replaces it; a note that is left behind is a lost call.
A fault that a retry can mend puts the call back in the queue. All of it runs in one event loop in a
thread of its own; the stage's thread hands calls in and takes replies out in portions.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from resources.http import pause_s
from resources.llm.budget import Budget
from resources.llm.coordination import HEARTBEAT_S, Coordination
from resources.llm.endpoint import Endpoint, Sent
from resources.llm.errors import LLMError
from resources.llm.faults import Fault
from resources.llm.report import CallReport
from resources.llm.request import PreparedCall
from resources.llm.store import Flights, Record, ReplyStore, SentCall
from resources.llm.types import Reply

RETRIES = 6
# A reached limit only costs time, so the engine waits longer for it than for a fault's end.
_RATE_RETRIES = 60
_FIRST_WAIT_S = 0.5
_MOST_BACKOFF_S = 20.0
_CLAIMED_AT_ONCE = 64
_ASKED_FOR_AT_ONCE = 256
# A call that another process has claimed is looked up in the store this often.
_LOOK_EVERY_S = 0.3
_WAKE_S = 0.5


@dataclass(slots=True)
class QueuedCall:
    """A call on its way, with the tokens of prompt and reply that the rate limit is to expect.

    It has met a number of faults that a retry may mend, and was refused for the rate (``waits``).
    """

    prepared: PreparedCall
    tokens: int
    most_usd: float
    faults: int = 0
    waits: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """A call with its reply; ``completed`` if the provider made and priced the reply now."""

    work: QueuedCall
    reply: Reply
    completed: bool = False


class Engine:
    """Sends calls to a role's endpoints; use it as a context manager.

    It makes the endpoints in its event loop. ``record`` and ``sent_call`` make what the store keeps
    of a completed call and of one that is about to be sent.
    """

    def __init__(
        self,
        *,
        open_endpoints: Callable[[], Sequence[Endpoint]],
        store: ReplyStore,
        shared: Coordination,
        record: Callable[[PreparedCall, Sent, Endpoint], Record],
        sent_call: Callable[[QueuedCall, Endpoint], SentCall],
        budget: Budget | None,
        report: CallReport,
    ) -> None:
        self._open_endpoints = open_endpoints
        self._store = store
        self._shared = shared
        self._record = record
        self._sent_call = sent_call
        self._budget = budget
        self._report = report
        # Both threads share these, under the condition.
        self._turn = threading.Condition()
        self._done: list[Done] = []
        self._error: BaseException | None = None
        self._ended = False
        # Only the event loop uses these.
        self._loop: asyncio.AbstractEventLoop
        self._endpoints: Sequence[Endpoint] = ()
        self._incoming: deque[QueuedCall] = deque()
        self._ready: deque[QueuedCall] = deque()
        self._elsewhere: deque[QueuedCall] = deque()
        self._release: list[str] = []
        self._in_flight = 0
        self._delayed = 0
        self._stopping = False
        self._wake: asyncio.TimerHandle | None = None
        self._helpers: dict[object, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="llm", daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> "Engine":
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._quit)
        self._thread.join()

    @property
    def capacity(self) -> int:
        """Calls that may be in flight at once by the endpoints' present limits."""
        return sum(endpoint.limit.limit for endpoint in self._endpoints) or 1

    def submit(self, works: Sequence[QueuedCall]) -> None:
        """Hand in calls; their replies come out of ``take`` in any order."""
        self._call(self._accept, works)

    def learn_logprobs(self) -> bool:
        """Whether all endpoints give token probabilities; asks each at most once.

        Raises:
            LLMError: An endpoint can't be opened.
        """
        if self._ended:
            raise self._error or LLMError("the engine has ended")
        learned = [
            asyncio.run_coroutine_threadsafe(endpoint.learn_logprobs(), self._loop).result()
            for endpoint in self._endpoints
        ]
        return all(learned)

    def take(self) -> list[Done]:
        """Wait for replies, and return all that have come.

        Raises:
            LLMError: No further call can succeed. All calls in flight have ended by then, and
                their replies were kept and returned before.
        """
        with self._turn:
            # A wait without a timeout is not woken by a signal that another thread gets.
            while not self._done and not self._ended:
                self._turn.wait(_WAKE_S)
            done, self._done = self._done, []
            if not done and self._error is not None:
                raise self._error
            return done

    # What follows runs in the engine's thread.

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(self._main())
        except BaseException as error:  # whatever it is, the stage's thread must hear it
            self._error = self._error or error
        finally:
            with self._turn:
                self._ended = True
                self._turn.notify_all()
            self._started.set()

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Have the event loop call a function, unless the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._quiet = asyncio.Event()
        opened: list[Endpoint] = []
        try:
            self._endpoints = self._open_endpoints()
            for endpoint in self._endpoints:
                await endpoint.open()
                opened.append(endpoint)
            async with _Keeper(self._store, self._shared.owner) as self._keeper:
                self._started.set()
                self._help("heart", self._beat)
                try:
                    await self._quiet.wait()
                finally:
                    await _cancel([*self._tasks, *self._helpers.values()])
            await asyncio.to_thread(self._shared.claim, [], self._release)
        finally:
            for endpoint in opened:
                await endpoint.close()
            if self._budget:
                await asyncio.to_thread(self._budget.release)

    def _accept(self, works: Sequence[QueuedCall]) -> None:
        self._incoming.extend(works)
        self._pump()

    def _quit(self) -> None:
        self._stopping = True
        self._quiet.set()

    def _pump(self) -> None:
        """Start all calls that can be started now, since something has changed."""
        if self._stopping:
            if not self._in_flight:
                self._quiet.set()
            return
        if (self._incoming or self._elsewhere) and len(self._ready) * 2 < self.capacity:
            self._help("claims", self._claim)
        while self._ready:
            endpoint = self._choose()
            if endpoint is None:
                return
            work = self._ready[0]
            if self._budget and not self._budget.reserve(work.most_usd):
                self._help("budget", partial(self._book, work))
                return
            self._ready.popleft()
            self._in_flight += 1
            endpoint.in_flight += 1
            taken = endpoint.rate.use_permit()
            task = self._loop.create_task(self._send(work, endpoint, taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _choose(self) -> Endpoint | None:
        """The least loaded endpoint that may get a call now; ``None`` where each has to wait."""
        now = time.monotonic()
        best: Endpoint | None = None
        # A single endpoint never rests: each call that failed waits by itself.
        alone = len(self._endpoints) == 1
        up = [endpoint for endpoint in self._endpoints if alone or endpoint.is_up(now)]
        if not up:
            living = [endpoint for endpoint in self._endpoints if endpoint.dead is None]
            rested = min((endpoint.resting_until for endpoint in living), default=now)
            self._wake_in(rested - now)
            return None
        for endpoint in up:
            if endpoint.load >= 1:
                endpoint.limit.full()
                if endpoint.contact_s:
                    self._wake_in(endpoint.contact_s)
            elif endpoint.rate.paused_s > 0:
                self._wake_in(endpoint.rate.paused_s)
            elif endpoint.rate.active and not endpoint.rate.permits:
                self._help(endpoint, partial(self._ask_for_permits, endpoint))
            elif best is None or endpoint.load < best.load:
                best = endpoint
        return best

    async def _send(self, work: QueuedCall, endpoint: Endpoint, taken: float) -> None:
        cost: float | None = 0.0
        # Until its reply is kept, a completed call stays noted, and its dollars stay reserved.
        is_completed = is_kept = False
        try:
            await self._keeper.note(self._sent_call(work, endpoint))
            result = await endpoint.attempt(work.prepared)
            if isinstance(result, Fault):
                self._retry(work, endpoint, result)
            elif result.completed:
                is_completed = True
                cost = result.reply.cost_usd
                tokens = result.reply.prompt_tokens + result.reply.completion_tokens
                endpoint.rate.replied(work.tokens, taken, tokens)
                # The call stays in flight until its reply is on disk, so that a crash never loses
                # more replies than there are calls in flight.
                reply = await self._keeper.keep(self._record(work.prepared, result, endpoint))
                is_kept = True
                self._report.replied(result.reply)
                reply = replace(reply, stored=False) if reply.stored else reply
                self._deliver(Done(work, reply, completed=True))
            else:
                self._deliver(Done(work, result.reply))
        except Exception as error:  # whatever it is, the stage's thread must hear it
            self._stop(error)
        finally:
            if not is_completed:
                self._keeper.end(work.prepared.key)
            if self._budget and (is_kept or not is_completed):
                self._budget.settle(work.most_usd, cost)
            if endpoint.dead is not None and all(place.dead for place in self._endpoints):
                self._stop(endpoint.dead)
            self._in_flight -= 1
            endpoint.in_flight -= 1
            self._pump()

    def _retry(self, work: QueuedCall, endpoint: Endpoint, fault: Fault) -> None:
        """Put a call back after a fault, or give it up."""
        self._report.faulted(fault)
        if endpoint.dead is not None:
            # Another endpoint gets the call, if one is left.
            self._ready.appendleft(work)
            return
        work.waits += fault.then == "wait"
        work.faults += fault.then == "retry"
        if fault.then == "call" or work.faults > RETRIES or work.waits > _RATE_RETRIES:
            reply = Reply(work.prepared.key, fault.status, detail=fault.detail)
            self._deliver(Done(work, reply))
            return
        tries = work.faults + min(work.waits, 6)
        wait = fault.wait_s or pause_s(tries, first_s=_FIRST_WAIT_S, longest_s=_MOST_BACKOFF_S)
        self._delayed += 1
        self._loop.call_later(wait, self._put_back, work)

    def _put_back(self, work: QueuedCall) -> None:
        self._delayed -= 1
        # The call goes first, since it has waited longest.
        self._ready.appendleft(work)
        self._pump()

    def _deliver(self, done: Done) -> None:
        self._release.append(done.work.prepared.key)
        with self._turn:
            self._done.append(done)
            if len(self._done) == 1:
                self._turn.notify_all()

    def _stop(self, error: Exception) -> None:
        """Send no further call; those in flight end and are kept, since they are paid for."""
        if self._error is None:
            self._error = error
        self._stopping = True

    async def _claim(self) -> None:
        """Make calls ready that no other process asks for, and deliver replies that others got."""
        if not self._incoming:
            await asyncio.sleep(_LOOK_EVERY_S)
        most = min(max(_CLAIMED_AT_ONCE, self.capacity), len(self._incoming))
        works = [self._elsewhere.popleft() for _ in range(len(self._elsewhere))]
        works += [self._incoming.popleft() for _ in range(most)]
        keys = [work.prepared.key for work in works]
        release, self._release = self._release, []
        mine = await asyncio.to_thread(self._shared.claim, keys, release)
        # Another process may have got a reply since the calls were first looked up.
        stored_replies = await asyncio.to_thread(self._store.get_many, keys)
        for work in works:
            reply = stored_replies.get(work.prepared.key)
            if reply is not None:
                self._deliver(Done(work, reply))
            elif work.prepared.key in mine:
                self._ready.append(work)
            else:
                self._elsewhere.append(work)

    async def _book(self, work: QueuedCall) -> None:
        """Book dollars for the next call, and stop the engine where that can't succeed."""
        assert self._budget is not None  # noqa: S101 (callers have checked; for the type checker)
        while True:
            if await asyncio.to_thread(self._budget.book, work.most_usd):
                return
            if self._in_flight:
                # Calls mostly cost less than was reserved; when one ends, this is tried again.
                return
            await asyncio.to_thread(self._budget.release)
            if not await asyncio.to_thread(self._budget.others_wait):
                break
            await asyncio.sleep(_WAKE_S)
        if await asyncio.to_thread(self._budget.book, work.most_usd):
            return
        remaining = sum(map(len, (self._ready, self._incoming, self._elsewhere))) + self._delayed
        raise await asyncio.to_thread(self._budget.reached, work.most_usd, remaining)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await asyncio.to_thread(self._shared.beat)

    def _help(self, what: object, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work beside the sending, one of its kind at a time, and then send on."""
        if what not in self._helpers:
            self._helpers[what] = self._loop.create_task(self._helped(what, work))

    async def _helped(self, what: object, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # whatever it is, the stage's thread must hear it
            self._stop(error)
        finally:
            del self._helpers[what]
        self._pump()

    async def _ask_for_permits(self, endpoint: Endpoint) -> None:
        tokens = [work.tokens for work in islice(self._ready, _ASKED_FOR_AT_ONCE)]
        if tokens:
            await endpoint.rate.ask(tokens)
            self._report.limit_share = endpoint.rate.share()

    def _wake_in(self, seconds: float) -> None:
        """Pump again after some time, because no reply or fault may come before."""
        at = self._loop.time() + max(seconds, 0.001)
        if self._wake is not None:
            if self._wake.when() <= at:
                return
            self._wake.cancel()
        self._wake = self._loop.call_at(at, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._pump()


class _Keeper:
    """Writes an owner's calls and replies into the store, in as few transactions as keep up."""

    def __init__(self, store: ReplyStore, owner: str) -> None:
        self._store = store
        self._waiting = _Portion(owner)
        self._has_waiting = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> "_Keeper":
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        # Replies that came are kept, even if nobody waits for them any more.
        await _cancel([self._task])
        if self._writing:
            await self._writing
        if self._has_waiting.is_set():
            await self._write(self._waiting)

    async def keep(self, record: Record) -> Reply:
        """Keep a call's reply and end its note; return the reply that the store then holds."""
        stored: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.records.append((record, stored))
        self._has_waiting.set()
        return await stored

    async def note(self, call: SentCall) -> None:
        """Note that a call is in flight; returns once the note is on disk."""
        noted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.sent[call.reply_id] = (call, noted)
        self._has_waiting.set()
        await noted

    def end(self, key: str) -> None:
        """End the note of a call that has no reply to keep."""
        self._waiting.sent.pop(key, None)
        self._waiting.ended.add(key)
        self._has_waiting.set()

    async def _work(self) -> None:
        while True:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            portion, self._waiting = self._waiting, _Portion(self._waiting.owner)
            # A commit that has begun is finished, whoever asks to stop.
            self._writing = asyncio.create_task(self._write(portion))
            await asyncio.shield(self._writing)

    async def _write(self, portion: "_Portion") -> None:
        try:
            replies = await asyncio.to_thread(
                self._store.put_many, [record for record, _ in portion.records], portion.flights()
            )
        except Exception as error:  # whatever it is, those who wait must hear it
            for future in portion.futures():
                if not future.done():
                    future.set_exception(error)
            return
        for (_, stored), reply in zip(portion.records, replies, strict=True):
            if not stored.done():
                stored.set_result(reply)
        for _, noted in portion.sent.values():
            if not noted.done():
                noted.set_result(None)


@dataclass(slots=True)
class _Portion:
    """Records and notes that one transaction writes, with the futures that wait for them.

    ``sent`` holds calls that are about to be sent, by key; ``ended`` keys of calls whose notes end.
    """

    owner: str
    records: list[tuple[Record, "asyncio.Future[Reply]"]] = field(default_factory=list)
    sent: dict[str, tuple[SentCall, "asyncio.Future[None]"]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def flights(self) -> Flights:
        return Flights(self.owner, [call for call, _ in self.sent.values()], self.ended)

    def futures(self) -> "list[asyncio.Future[Any]]":
        return [stored for _, stored in self.records] + [noted for _, noted in self.sent.values()]


async def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _new_loop() -> asyncio.AbstractEventLoop:
    """An event loop, the faster one where the platform has it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
