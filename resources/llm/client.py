"""The client that every stage asks its model through.

A batch of calls is looked up in the reply store, each missing one is sent once, and each reply is
in the store before it is returned. So a stage that is run again, after a crash or on purpose, pays
only for what is new.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from resources.llm.budget import Budget
from resources.llm.errors import BudgetError, LLMError, Unparsable
from resources.llm.prices import Price, price_of
from resources.llm.request import Prepared, prepare, provider_of, request_body
from resources.llm.store import Record, ReplyStore
from resources.llm.types import Call, Estimate, Outcome, Reply, Usage
from resources.models import ModelError, served_gguf
from resources.progress import Reporter
from resources.settings import Reading, Role

if TYPE_CHECKING:
    from resources.llm.endpoint import Endpoint

T = TypeVar("T")
Item = TypeVar("Item")
# What another attempt may mend; a prompt that is too long stays so, a failed call was retried.
_TRIED_AGAIN = frozenset({"unparsable", "truncated", "refused"})
# Prompt tokens by byte before any reply was measured; English has about a quarter.
_TOKENS_PER_BYTE = 0.27
_WAKE_S = 0.5


class LLMClient:
    """Calls of one stage to one role's model.

    Args:
        role_name: tagger, scorer or judge.
        role: The role's settings.
        store: Replies; the client closes it.
        home: The home.
        models: Folder of the embedded models.
        stage: Asset that asks; kept with each reply.
        dataset: Dataset that it asks for; kept with each reply.
        budget_usd: Most dollars; with ``run``, of all that the run spends.
        run: The run that pays.
        reporter: Makes the progress report of a batch from its label and size.
    """

    def __init__(
        self,
        *,
        role_name: str,
        role: Role,
        store: ReplyStore,
        home: Path,
        models: Path,
        stage: str,
        dataset: str | None = None,
        budget_usd: float | None = None,
        run: str | None = None,
        reporter: Callable[[str, int], Reporter] = Reporter,
    ) -> None:
        self.role = role
        self.role_name = role_name
        self._store = store
        self._home = home
        self._models = models
        self._stage = stage
        self._dataset = dataset
        self._budget_usd = budget_usd
        self._run = run
        self._reporter = reporter
        self._spent = 0.0
        self._usage = Usage()
        self._price = price_of(role.model_label, home)

    def __enter__(self) -> "LLMClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.close()

    @property
    def reading(self) -> Reading:
        """How judgements are read from replies."""
        return self.role.resolved_reading

    @property
    def structured(self) -> Literal["grammar", "json_schema", "none"]:
        """How replies are held to their form."""
        return self.role.resolved_structured

    @property
    def model_label(self) -> str:
        """The model's name in tables."""
        return self.role.model_label

    @property
    def usage(self) -> Usage:
        """What the calls so far took."""
        return self._usage

    def complete(self, calls: Sequence[Call], *, label: str) -> list[Reply]:
        """Have a reply for each call, from the store or the provider.

        Args:
            calls: The calls; equal ones are sent once.
            label: What is being done, for the progress report.

        Returns:
            Replies in the calls' order. What went wrong with one call is its reply's status.

        Raises:
            LLMError: No call can succeed (key, model, address, store); replies so far are kept.
            BudgetError: The next call would exceed the budget; replies so far are kept.
        """
        started = time.monotonic()
        prepared = [prepare(call, self.role) for call in calls]
        times = Counter(each.key for each in prepared)
        unique = {each.key: each for each in prepared}
        found = self._store.get_many(list(unique))
        missing = [each for key, each in unique.items() if key not in found]
        try:
            with self._reporter(label, len(calls)) as bar:
                self._count_stored(found, times, bar)
                if missing:
                    found |= _run_apart(lambda: self._send_all(missing, times, bar))
        finally:
            self._spend(Usage(seconds=time.monotonic() - started))
        asked: set[str] = set()
        return [self._told(found[each.key], asked) for each in prepared]

    def complete_parsed(
        self,
        items: Sequence[Item],
        build: Callable[[Item, int, str | None], Call],
        parse: Callable[[Reply], T],
        *,
        label: str,
        max_attempts: int,
    ) -> list[Outcome[T]]:
        """Have a parsed value for each item, asking again where a reply can't be used.

        All items are tried once, then those without a value again, and so on.

        Args:
            items: What to ask about.
            build: Makes the call from item, attempt (0-based, which it must set in the call) and
                the reason why the attempt before had no value (``None`` at first).
            parse: Reads a reply; raises ``Unparsable`` where it says nothing usable.
            label: What is being done, for the progress report.
            max_attempts: Most calls an item.

        Returns:
            Outcomes in the items' order.

        Raises:
            LLMError: As in ``complete``.
            ValueError: ``build`` did not set the attempt.
        """
        outcomes: dict[int, Outcome[T]] = {}
        pending = list(range(len(items)))
        for attempt in range(max_attempts):
            calls = []
            for index in pending:
                before = outcomes.get(index)
                call = build(items[index], attempt, before.detail if before else None)
                if call.attempt != attempt:
                    raise ValueError(f"build gave attempt {call.attempt}, expected {attempt}")
                calls.append(call)
            again = f", attempt {attempt + 1}" if attempt else ""
            replies = self.complete(calls, label=label + again)
            for index, reply in zip(pending, replies, strict=True):
                outcomes[index] = _outcome(reply, parse, attempt + 1)
            pending = [index for index in pending if outcomes[index].status in _TRIED_AGAIN]
            if not pending:
                break
        return [outcomes[index] for index in range(len(items))]

    def estimate(self, calls: Sequence[Call]) -> Estimate:
        """What the calls would take; makes none and starts no server."""
        unique = {each.key: each for each in (prepare(call, self.role) for call in calls)}
        stored = self._store.get_many(list(unique))
        new = [each for key, each in unique.items() if key not in stored]
        measured = self._store.measured(self.role.model_label, self.role_name)
        ratio = measured.tokens_per_byte if measured else _TOKENS_PER_BYTE
        prompt = round(ratio * sum(each.prompt_bytes for each in new))
        mean = measured.completion_tokens if measured else float("inf")
        completion = round(sum(min(mean, each.max_tokens) for each in new))
        seconds = measured.latency_s * len(new) / self.role.concurrency if measured else None
        return Estimate(
            calls=len(calls),
            stored=len(calls) - len(new),
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=self._price.cost(prompt, completion) if self._price else None,
            seconds=seconds if new else 0.0,
        )

    async def _send_all(
        self, missing: Sequence[Prepared], times: Counter[str], bar: Reporter
    ) -> dict[str, Reply]:
        """Send calls, as many at once as the role allows, and return their replies by key."""
        # Heavy: needed only where something is to be sent.
        from resources.llm.endpoint import Endpoint

        budget = self._opened_budget(len(missing))
        replies: dict[str, Reply] = {}
        faults: list[LLMError] = []
        queue = iter(enumerate(missing))
        async with (
            _Keeper(self._store) as keeper,
            Endpoint(self.role_name, self.role, self._price, self._server()) as endpoint,
        ):

            async def work(queue: Iterator[tuple[int, Prepared]]) -> None:
                for number, prepared in queue:
                    try:
                        remaining = len(missing) - number
                        reply = await self._send(prepared, remaining, endpoint, keeper, budget)
                    except LLMError as error:
                        # Calls in flight are paid for: they end and are kept; no other begins.
                        faults.append(error)
                        endpoint.stop()
                        return
                    replies[prepared.key] = reply
                    self._count(reply, times[prepared.key], times[prepared.key] - 1, bar)
                    if faults:
                        return

            workers = min(self.role.concurrency, len(missing))
            await asyncio.gather(*(work(queue) for _ in range(workers)))
        if faults:
            raise faults[0]
        return replies

    async def _send(
        self,
        prepared: Prepared,
        remaining: int,
        endpoint: "Endpoint",
        keeper: "_Keeper",
        budget: Budget | None,
    ) -> Reply:
        reserved = await budget.reserve(prepared, remaining) if budget else 0.0
        cost: float | None = 0.0
        try:
            sent = await endpoint.send(prepared)
            cost = sent.reply.cost_usd if sent.completed else 0.0
        finally:
            if budget:
                await budget.settle(reserved, cost)
        self._spent += cost or 0.0
        reply = sent.reply
        self._spend(
            Usage(
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                cost_usd=cost,
            )
        )
        if not sent.completed:
            return reply
        kept = await keeper.keep(self._record(prepared, reply))
        return replace(kept, stored=False)

    def _record(self, prepared: Prepared, reply: Reply) -> Record:
        return Record(
            reply=reply,
            role=self.role_name,
            stage=self._stage,
            dataset=self._dataset,
            run=self._run,
            model=self.role.model_label,
            provider=provider_of(self.role),
            endpoint=self.role.base_url,
            prompt_version=prepared.call.prompt_version,
            request=request_body(prepared, self.role),
            prompt_bytes=prepared.prompt_bytes,
        )

    def _opened_budget(self, remaining: int) -> Budget | None:
        """The budget as it stands; nothing is spent where the price is not known."""
        limit = self._budget_usd
        if limit is None or self._price == Price(0.0, 0.0):
            return None
        spent = self._store.spent(self._run) if self._run else self._spent
        if self._price is None:
            raise BudgetError(
                f"{self.role_name}: a budget of ${limit:g} is set, but the price of "
                f"{self.role.model_label} is not known; add it to {self._home / 'prices.toml'} "
                "under [models] (input = 0, output = 0 where it costs nothing)",
                spent_usd=spent,
                limit_usd=limit,
                remaining=remaining,
            )
        return Budget(limit, spent, self._price)

    def _server(self) -> Any:
        """The embedded server, for an embedded role."""
        if not self.role.embedded:
            return None
        from resources.llm.embedded import EmbeddedServer

        try:
            return EmbeddedServer(self._home, served_gguf(self._models))
        except ModelError as error:
            raise LLMError(f"{self.role_name}: {error}") from error

    def _count_stored(self, found: Mapping[str, Reply], times: Counter[str], bar: Reporter) -> None:
        """Count all that was stored already, in one step."""
        calls = sum(times[key] for key in found)
        failed = sum(times[key] for key, reply in found.items() if reply.status != "ok")
        if calls:
            self._spend(Usage(calls=calls, stored=calls, failed=failed))
            bar.advance(calls, stored=calls, failed=failed)

    def _count(self, reply: Reply, times: int, stored: int, bar: Reporter) -> None:
        """Count a reply for all calls that asked for it."""
        failed = 0 if reply.status == "ok" else times
        self._spend(Usage(calls=times, stored=stored, failed=failed))
        bar.advance(times, stored=stored, failed=failed)

    def _spend(self, more: Usage) -> None:
        """Add to the usage; a sum with an unknown cost is unknown."""
        have = self._usage
        costs = (have.cost_usd, more.cost_usd)
        self._usage = Usage(
            calls=have.calls + more.calls,
            stored=have.stored + more.stored,
            failed=have.failed + more.failed,
            prompt_tokens=have.prompt_tokens + more.prompt_tokens,
            completion_tokens=have.completion_tokens + more.completion_tokens,
            cost_usd=None if None in costs else sum((cost for cost in costs if cost), 0.0),
            seconds=have.seconds + more.seconds,
        )

    @staticmethod
    def _told(reply: Reply, asked: set[str]) -> Reply:
        """The reply for one call: a repeated call's was not paid for again."""
        if reply.reply_id in asked:
            return replace(reply, stored=True)
        asked.add(reply.reply_id)
        return reply


class _Keeper:
    """Puts replies into the store as they come; many in one transaction where they come fast."""

    def __init__(self, store: ReplyStore) -> None:
        self._store = store
        self._queue: asyncio.Queue[tuple[Record, asyncio.Future[Reply]]] = asyncio.Queue()
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> "_Keeper":
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._queue.join()
        self._task.cancel()

    async def keep(self, record: Record) -> Reply:
        """Return what the store holds for the call once it is on disk."""
        kept: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((record, kept))
        return await kept

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._write(batch)
            for _ in batch:
                self._queue.task_done()

    async def _write(self, batch: Sequence[tuple[Record, "asyncio.Future[Reply]"]]) -> None:
        waiting = [kept for _, kept in batch]
        try:
            records = [record for record, _ in batch]
            replies = await asyncio.to_thread(self._store.put_many, records)
        except Exception as error:  # whatever it is, those who wait must hear it
            for kept in waiting:
                if not kept.done():
                    kept.set_exception(error)
            return
        for kept, reply in zip(waiting, replies, strict=True):
            if not kept.done():
                kept.set_result(reply)


def _outcome(reply: Reply, parse: Callable[[Reply], T], attempts: int) -> Outcome[T]:
    if reply.status != "ok":
        return Outcome(None, reply.status, reply.detail, attempts, reply)
    try:
        return Outcome(parse(reply), "ok", None, attempts, reply)
    except Unparsable as error:
        return Outcome(None, "unparsable", str(error), attempts, reply)


def _run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread with its own event loop, so that a running one is no matter.

    An interrupt (Ctrl+C, Dagster's termination) cancels it; what has come is still stored.
    """
    handle: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()

    async def body() -> T:
        handle.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work()

    with ThreadPoolExecutor(1, thread_name_prefix="llm") as pool:
        future = pool.submit(lambda: asyncio.run(body()))
        try:
            # A wait without end is not woken where another thread gets the signal.
            while not future.done():
                wait([future], timeout=_WAKE_S)
            return future.result()
        except BaseException:
            if not future.done():
                loop, task = handle.result()
                if task is not None:
                    loop.call_soon_threadsafe(task.cancel)
            raise
