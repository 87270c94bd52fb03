"""The client that every stage asks its model through.

Calls are looked up in the reply store, each missing one is sent once, and each reply is in the
store before it is returned. So a stage that is run again, after a crash or on purpose, pays only
for what is new. Calls stream in and replies stream out: memory does not grow with their number.
"""

import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import orjson

from resources.llm.batch.ledger import open_batches_hold
from resources.llm.batch.runner import BatchRunner
from resources.llm.batch.stage import BatchStage
from resources.llm.budget import Budget
from resources.llm.concurrency import FIRST
from resources.llm.coordination import Coordination
from resources.llm.embedded import SLOTS, EmbeddedServer
from resources.llm.endpoint import Endpoint, Sent
from resources.llm.engine import Engine, QueuedCall
from resources.llm.errors import BudgetError, LLMError, Unparsable
from resources.llm.prices import price_of
from resources.llm.report import CallReport
from resources.llm.request import (
    PreparedCall,
    asked_form,
    prepare,
    provider_of,
    request_body,
    sampling_of,
)
from resources.llm.store import ReadingRow, Record, ReplyStore, SentCall, chunked, month_start
from resources.llm.tokens import TokenCounter
from resources.llm.types import KEPT, Call, Estimate, Outcome, Reply, UnusableReply, Usage
from resources.models import ModelError, served_gguf
from resources.progress import Reporter
from resources.settings import BudgetSettings, Reading, Role, Structured

T = TypeVar("T")
Item = TypeVar("Item")
# What another attempt may mend; a prompt that is too long stays so, a failed call was retried.
TRIED_AGAIN = frozenset({"unparsable", "truncated", "refused", "garbled"})
# Prompt tokens by byte before any reply was measured; English has about a quarter.
_TOKENS_PER_BYTE = 0.27
# Calls that are looked up at once, and that may be on their way at once.
_CHUNK = 2_048
_WINDOW = 8_192
_READINGS_AT_ONCE = 1_000
# Prompts that are counted by the model's own tokenizer for an estimate; the rest by their ratio.
_TOKENIZED_CALLS = 500


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A call and what it was asked for: the number of its item, and the attempt."""

    number: int
    call: Call
    attempt: int = 0


class _Feed:
    """Calls still to be asked for: those to be tried again first, then the source."""

    def __init__(self, source: Iterable[_Ticket] = ()) -> None:
        self._source = iter(source)
        self.again: deque[_Ticket] = deque()

    def then(self, source: Iterable[_Ticket]) -> None:
        """Go on with another source."""
        self._source = itertools.chain(self._source, source)

    def take(self, most: int) -> list[_Ticket]:
        found = [self.again.popleft() for _ in range(min(most, len(self.again)))]
        found += itertools.islice(self._source, most - len(found))
        return found


class LLMClient:
    """Calls of one stage to one role's model.

    Args:
        role_name: tagger, scorer, refiner or judge.
        role: The role's settings.
        store: Replies; the client closes it.
        home: The home.
        models: Folder of the embedded models.
        stage: Asset that asks; kept with each reply.
        dataset: Dataset that it asks for; kept with each reply.
        budget: Most dollars of a run, an asset and a month.
        run: The run that pays.
        reporter: Makes the progress report of a batch from its label and size.
        say: Takes a line for a person: what the calls will take, what an endpoint lacks.
        ask_endpoints: Whether endpoints may be asked what they can do; for estimates they are not.
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
        budget: BudgetSettings | None = None,
        run: str | None = None,
        reporter: Callable[[str, int], Reporter] = Reporter,
        say: Callable[[str], None] | None = None,
        ask_endpoints: bool = True,
    ) -> None:
        self.role = role
        self.role_name = role_name
        self._store = store
        self._home = home
        self._models = models
        self.stage = stage
        self._dataset = dataset
        self._budget = budget or BudgetSettings()
        # What one client spends is limited too where it is in no run.
        self._run = run or f"no-run-{uuid.uuid4().hex[:12]}"
        self._reporter = reporter
        self._say = say or (lambda line: None)
        self._ask_endpoints = ask_endpoints
        self._usage = Usage()
        self._price = price_of(role, home)
        self._tokens = TokenCounter(role.model)
        self._reading: Reading | None = None
        self._shared_or_none: Coordination | None = None
        self._unwritten: list[ReadingRow] = []
        self.report = CallReport()

    def __enter__(self) -> "LLMClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as closing:
            closing.callback(self._store.close)
            if self._shared_or_none is not None:
                closing.callback(self._shared_or_none.close)

    @property
    def reading(self) -> Reading:
        """How judgements are read from replies: as set, where the endpoint can do it."""
        if self._reading is None:
            self._reading = self.role.resolved_reading
            if self._reading == "logprobs" and self._ask_endpoints and not self.role.embedded:
                with self._engine(None) as engine:
                    if not engine.learn_logprobs():
                        self._reading = "generated"
        return self._reading

    @property
    def structured(self) -> Structured:
        """How replies are asked to be held to their form."""
        return asked_form(self.role)

    @property
    def model_label(self) -> str:
        """The model's name in tables."""
        return self.role.model_label

    @property
    def usage(self) -> Usage:
        """What the calls so far took."""
        return self._usage

    def ceilings(self) -> Mapping[str, tuple[float, float]]:
        """Dollars spent so far and the ceiling, of run, asset and month where one is set.

        May be asked for after the client was closed.
        """
        scopes = self._scopes()
        if not scopes:
            return {}
        with ReplyStore(self._store.url) as store:
            return {
                scope.split(" ")[0]: (store.spent(**which), most)
                for scope, (most, which) in scopes.items()
            }

    def stream(
        self, calls: Iterable[Call], *, label: str, total: int | None = None
    ) -> Iterator[tuple[int, Reply]]:
        """Have a reply for each of any number of calls, one after another as they come.

        Args:
            calls: The calls; read as replies are taken. Equal ones are sent once.
            label: What is being done, for the progress report.
            total: How many calls there are, where known; for the progress report.

        Yields:
            A call's position and its reply. What went wrong with one call is its reply's status.

        Raises:
            LLMError: No call can succeed (key, model, address, store); replies so far are kept.
            BudgetError: The next call would exceed the budget; replies so far are kept.
        """
        feed = _Feed(_Ticket(number, call) for number, call in enumerate(calls))
        with self._progress(label, total or 0) as bar:
            for ticket, reply in self._replies(feed):
                bar.advance(stored=int(reply.stored), failed=int(reply.status != "ok"))
                yield ticket.number, reply

    def complete(self, calls: Sequence[Call], *, label: str) -> list[Reply]:
        """Have a reply for each call, in the calls' order; raises as ``stream`` does."""
        replies: dict[int, Reply] = {}

        def keep(ticket: _Ticket, reply: Reply) -> bool:
            replies[ticket.number] = reply
            return True

        self._settle(len(calls), lambda number: calls[number], keep, _Feed(), label)
        return [replies[number] for number in range(len(calls))]

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
            LLMError: As in ``stream``.
            ValueError: ``build`` did not set the attempt.
        """
        return self.complete_read(
            items,
            build,
            lambda reply, call: parse(reply),
            label=label,
            max_attempts=max_attempts,
        )

    def complete_read(
        self,
        items: Sequence[Item],
        build: Callable[[Item, int, str | None], Call],
        read: Callable[[Reply, Call], T],
        *,
        label: str,
        max_attempts: int,
    ) -> list[Outcome[T]]:
        """As ``complete_parsed``, where a reply is read knowing what was asked.

        Args:
            items: What to ask about.
            build: Makes a call from item, attempt and the reason before, as in ``complete_parsed``.
            read: Reads a call's reply; raises ``Unparsable`` where it says nothing usable.
            label: What is being done, for the progress report.
            max_attempts: Most calls an item.
        """
        outcomes: dict[int, Outcome[T]] = {}
        feed = _Feed()

        def settled(ticket: _Ticket, reply: Reply) -> bool:
            earlier = outcomes[ticket.number].unusable if ticket.attempt else ()
            outcome = outcome_of(reply, ticket.call, read, ticket.attempt + 1, earlier)
            outcomes[ticket.number] = outcome
            self._note(ticket.call, outcome)
            attempt = ticket.attempt + 1
            if outcome.status not in TRIED_AGAIN or attempt >= max_attempts:
                return True
            call = _built(build, items[ticket.number], attempt, outcome.detail)
            feed.again.append(_Ticket(ticket.number, call, attempt))
            return False

        try:
            self._settle(
                len(items),
                lambda number: _built(build, items[number], 0, None),
                settled,
                feed,
                label,
            )
        finally:
            self._write_readings()
        return [outcomes[number] for number in range(len(items))]

    def sampling(self, call: Call) -> dict[str, Any]:
        """How a call would be sampled by an endpoint that has all that it asks for."""
        prepared = prepare(call, self.role)
        return sampling_of(request_body(prepared, self.role, self.role.model))

    def sampled(self, reply_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """How stored replies were sampled, by id: what their requests really held.

        A reply whose request was not kept is left out.
        """
        bodies = self._store.requests(sorted(set(reply_ids)))
        found = {key: orjson.loads(body or "{}") for key, body in bodies.items()}
        return {key: sampling_of(body) for key, body in found.items() if body}

    def estimate(self, calls: Iterable[Call]) -> Estimate:
        """What the calls would take; makes none and starts no server."""
        plan = _Plan()
        for _ in self._look_up(enumerate(calls), plan):
            pass
        return self._estimated(plan)

    def _settle(
        self,
        count: int,
        call_of: Callable[[int], Call],
        settles: Callable[["_Ticket", Reply], bool],
        feed: "_Feed",
        label: str,
    ) -> None:
        """Have each of a known number of items settled: stored ones first, then the others.

        Args:
            count: How many items.
            call_of: Makes an item's first call; asked again for those that are to be sent, so
                that not all prompts are held at once.
            settles: Takes a reply; whether its item is settled by it.
            feed: Calls to be tried again, which ``settles`` may add to.
            label: What is being done.
        """
        plan = _Plan()
        with self._progress(label, count) as bar:

            def settle(ticket: _Ticket, reply: Reply) -> None:
                if settles(ticket, reply):
                    bar.advance(stored=int(reply.stored), failed=int(reply.status != "ok"))

            numbered = ((number, call_of(number)) for number in range(count))
            for ticket, reply in self._look_up(numbered, plan):
                self._count(reply, now=False)
                settle(ticket, reply)
            if plan.missing:
                self._announce(plan)
                self._have_made_in_batches(plan, call_of)
            feed.then(_Ticket(number, call_of(number)) for number in plan.missing)
            for ticket, reply in self._replies(feed, plan):
                settle(ticket, reply)

    def _look_up(
        self, numbered: Iterable[tuple[int, Call]], plan: "_Plan"
    ) -> Iterator[tuple["_Ticket", Reply]]:
        """Yield what is stored, and note what is not in the plan."""
        for chunk in chunked(numbered, _CHUNK):
            prepared = [prepare(call, self.role) for _, call in chunk]
            found = self._store.get_many(list({each.key for each in prepared}))
            for (number, call), each in zip(chunk, prepared, strict=True):
                plan.calls += 1
                reply = found.get(each.key)
                if reply is not None:
                    yield _Ticket(number, call), reply
                else:
                    plan.note(number, each, self._tokens)

    def _replies(
        self, feed: "_Feed", plan: "_Plan | None" = None
    ) -> Iterator[tuple["_Ticket", Reply]]:
        """Yield a reply for each call of the feed; whoever takes them may add to the feed."""
        pending: dict[str, list[_Ticket]] = {}
        engine: Engine | None = None
        with ExitStack() as opened:
            while True:
                while len(pending) < _WINDOW and (tickets := feed.take(_CHUNK)):
                    prepared = [prepare(ticket.call, self.role) for ticket in tickets]
                    found = self._store.get_many([each.key for each in prepared])
                    new = []
                    for ticket, each in zip(tickets, prepared, strict=True):
                        reply = found.get(each.key)
                        if reply is not None:
                            self._count(reply, now=False)
                            yield ticket, reply
                        elif each.key in pending:
                            pending[each.key].append(ticket)
                        else:
                            pending[each.key] = [ticket]
                            new.append(each)
                    if new:
                        if engine is None:
                            engine = opened.enter_context(self._engine(self._opened_budget()))
                        engine.submit([self._work(each, plan) for each in new])
                if not pending or engine is None:
                    return
                for done in engine.take():
                    reply = done.reply
                    for ticket in pending.pop(done.work.prepared.key):
                        self._count(reply, now=done.completed and not reply.stored)
                        yield ticket, reply
                        # A repeated call was not paid for again.
                        reply = replace(done.reply, stored=True) if done.completed else reply

    def _work(self, prepared: PreparedCall, plan: "_Plan | None") -> QueuedCall:
        prompt = round(prepared.prompt_bytes * (plan.tokens_per_byte if plan else _TOKENS_PER_BYTE))
        expected = plan.completion_tokens if plan else None
        completion = min(expected or prepared.max_tokens, prepared.max_tokens)
        most = (
            self._price.cost(prepared.most_prompt_tokens, prepared.max_tokens)
            if self._price
            else 0.0
        )
        return QueuedCall(prepared, prompt + round(completion), most)

    def _engine(self, budget: Budget | None) -> Engine:
        return Engine(
            open_endpoints=self._endpoints,
            store=self._store,
            shared=self._shared,
            record=self._record,
            sent_call=self._sent_call,
            budget=budget,
            report=self.report,
        )

    def _endpoints(self) -> list[Endpoint]:
        server = self._server()
        return [
            Endpoint(self.role_name, self.role, place, self._price, self._shared, self._say, server)
            for place in self.role.places
        ]

    @property
    def _shared(self) -> Coordination:
        """What processes share; opened where something is to be sent."""
        if self._shared_or_none is None:
            self._shared_or_none = Coordination(self._store.url)
        return self._shared_or_none

    def _record(self, prepared: PreparedCall, sent: Sent, endpoint: Endpoint) -> Record:
        return Record(
            reply=sent.reply,
            role=self.role_name,
            stage=self.stage,
            dataset=self._dataset,
            run=self._run,
            model=self.role.model_label,
            provider=provider_of(endpoint.base_url),
            endpoint=endpoint.base_url,
            prompt_version=prepared.call.prompt_version,
            request=sent.request,
            prompt_bytes=prepared.prompt_bytes,
            raw=sent.raw,
        )

    def _sent_call(self, work: QueuedCall, endpoint: Endpoint) -> SentCall:
        return SentCall(
            reply_id=work.prepared.key,
            owner=self._shared.owner,
            role=self.role_name,
            stage=self.stage,
            dataset=self._dataset,
            run=self._run,
            model=self.role.model_label,
            provider=provider_of(endpoint.base_url),
            endpoint=endpoint.base_url,
            prompt_version=work.prepared.call.prompt_version,
            most_usd=work.most_usd if self._price else None,
        )

    def _opened_budget(self) -> Budget | None:
        """What may be spent; nothing where the price is not known."""
        scopes = self._scopes()
        limits = {scope: most for scope, (most, _) in scopes.items()}
        if not limits or (self._price and self._price.is_free):
            return None
        store = self._store
        if self._price is None:
            scope, most = next(iter(limits.items()))
            raise BudgetError(
                f"{self.role_name}: a budget of ${most:g} is set, but the price of "
                f"{self.role.model_label} is not known; add it to {self._home / 'prices.toml'} "
                "under [models] (input = 0, output = 0 where it costs nothing)",
                spent_usd=store.spent(**scopes[scope][1]),
                limit_usd=most,
                remaining=0,
            )
        return Budget(
            limits,
            lambda scope: store.spent(**scopes[scope][1]),
            self._shared,
            lambda scope: store.lost_usd(**scopes[scope][1]),
        )

    def _scopes(self) -> dict[str, tuple[float, dict[str, Any]]]:
        """Each scope that has a ceiling: its dollars, and which calls ``spent`` is to count."""
        run, stage, month = self._run, self.stage, month_start()
        budget = self._budget
        known: dict[str, tuple[float | None, dict[str, Any]]] = {
            f"run {run}": (budget.max_cost_usd, {"run": run}),
            f"asset {run} {stage}": (
                budget.max_cost_usd_per_asset.get(stage),
                {"run": run, "stage": stage},
            ),
            f"month {month:%Y-%m}": (budget.max_cost_usd_per_month, {"since": month}),
        }
        return {scope: (most, which) for scope, (most, which) in known.items() if most is not None}

    def _server(self) -> EmbeddedServer | None:
        """The embedded server, for an embedded role."""
        if not self.role.embedded:
            return None
        try:
            return EmbeddedServer(self._home, served_gguf(self._models))
        except ModelError as error:
            raise LLMError(f"{self.role_name}: {error}") from error

    def _have_made_in_batches(self, plan: "_Plan", call_of: Callable[[int], Call]) -> None:
        """Have missing calls made by the provider's Batch API, where that is set.

        Also where some of them stand in batches that a process left open or takes forward.
        """
        role = self.role
        if role.embedded:
            return
        submit = self._goes_in_batches(len(plan.keys))
        if not submit and not open_batches_hold(self._store, role.model_label, plan.keys):
            return
        stage = BatchStage(
            name=self.stage,
            dataset=self._dataset,
            run=self._run,
            role_name=self.role_name,
            role=role,
            price=self._price,
            budget=self._opened_budget(),
            folder=self._home / "llm",
        )
        runner = BatchRunner(stage, self._store, self._shared, self._say)
        try:
            runner.run((prepare(call_of(number), role) for number in plan.missing), submit=submit)
        finally:
            self._usage += runner.usage

    def _goes_in_batches(self, new: int) -> bool:
        """Whether so many new calls go to the provider's Batch API."""
        return self.role.batch_from is not None and new >= self.role.batch_from

    def _estimated(self, plan: "_Plan") -> Estimate:
        measured = self._store.measured(self.role.model_label, self.role_name)
        new = len(plan.keys)
        if plan.tokenized_bytes:
            plan.tokens_per_byte = plan.tokenized / plan.tokenized_bytes
        elif measured:
            plan.tokens_per_byte = measured.tokens_per_byte
        plan.completion_tokens = measured.completion_tokens if measured else None
        batched = self._goes_in_batches(new)
        prompt = round(plan.tokens_per_byte * plan.prompt_bytes)
        completion = plan.most_completion_tokens
        if measured:
            completion = min(completion, round(measured.completion_tokens * new))
        seconds: float | None = 0.0
        if new:
            at_once = self.role.concurrency or (2 * SLOTS if self.role.embedded else FIRST)
            seconds = measured.latency_s * new / min(at_once, new) if measured else None
        return Estimate(
            calls=plan.calls,
            stored=plan.calls - len(plan.missing),
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=self._price.cost(prompt, completion, batch=batched) if self._price else None,
            seconds=seconds,
        )

    def _announce(self, plan: "_Plan") -> None:
        """Say what the calls will take, before the first is sent."""
        found = self._estimated(plan)
        self.report.expect(len(plan.keys), found.cost_usd)
        if self._price is None or found.cost_usd is None:
            cost = f"at an unknown price ({self.role.model_label} is not in prices.toml)"
        elif found.cost_usd == 0:
            cost = "at no cost"
        else:
            cost = f"about ${found.cost_usd:.4g} (prices of {self._price.source})"
        self._say(
            f"{found.calls:,} calls: {found.stored:,} stored, {len(plan.keys):,} to send, about "
            f"{found.prompt_tokens:,} tokens in and {found.completion_tokens:,} out, {cost}"
        )

    def _note(self, call: Call, outcome: Outcome[Any]) -> None:
        """Note what was read from a reply that is in the store."""
        if outcome.reply.status not in KEPT:
            return
        value: str | None = None
        if outcome.value is not None:
            try:
                value = orjson.dumps(outcome.value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
            except TypeError:
                value = None
        self._unwritten.append(
            ReadingRow(
                outcome.reply.reply_id, call.prompt_version, outcome.status, value, outcome.detail
            )
        )
        if len(self._unwritten) >= _READINGS_AT_ONCE:
            self._write_readings()

    def _write_readings(self) -> None:
        rows, self._unwritten = self._unwritten, []
        self._store.put_readings(rows)

    @contextmanager
    def _progress(self, label: str, total: int) -> Iterator[Reporter]:
        started = time.monotonic()
        try:
            with self._reporter(label, total) as bar:
                bar.more = lambda: self.report.parts(self._usage)
                yield bar
        finally:
            self._usage += Usage(seconds=time.monotonic() - started)

    def _count(self, reply: Reply, *, now: bool) -> None:
        """Count a call; its tokens and dollars only if they were paid for now."""
        self._usage += Usage(
            calls=1,
            stored=int(reply.stored),
            failed=int(reply.status != "ok"),
            prompt_tokens=reply.prompt_tokens if now else 0,
            completion_tokens=reply.completion_tokens if now else 0,
            cost_usd=reply.cost_usd if now else 0.0,
        )


class _Plan:
    """What is missing of a known number of calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.missing: list[int] = []
        self.keys: set[str] = set()
        self.prompt_bytes = 0
        self.most_completion_tokens = 0
        self.tokenized = self.tokenized_bytes = 0
        self.tokens_per_byte = _TOKENS_PER_BYTE
        self.completion_tokens: float | None = None

    def note(self, number: int, prepared: PreparedCall, tokens: TokenCounter) -> None:
        """A call is not stored."""
        self.missing.append(number)
        if prepared.key in self.keys:
            return
        self.keys.add(prepared.key)
        self.prompt_bytes += prepared.prompt_bytes
        self.most_completion_tokens += prepared.max_tokens
        if tokens.known and len(self.keys) <= _TOKENIZED_CALLS:
            self.tokenized += tokens.count([each["content"] for each in prepared.call.messages])
            self.tokenized_bytes += prepared.prompt_bytes


def _built(
    build: Callable[[Item, int, str | None], Call], item: Item, attempt: int, reason: str | None
) -> Call:
    call = build(item, attempt, reason)
    if call.attempt != attempt:
        raise ValueError(f"build gave attempt {call.attempt}, expected {attempt}")
    return call


def outcome_of(
    reply: Reply,
    call: Call,
    read: Callable[[Reply, Call], T],
    attempts: int,
    earlier: tuple[UnusableReply, ...],
) -> Outcome[T]:
    """What came of an item by one more reply.

    Args:
        reply: The reply.
        call: The call.
        read: Reads the reply; raises ``Unparsable`` where it says nothing usable.
        attempts: Calls made for the item, this one included.
        earlier: Attempts before that had no value.
    """
    status, detail = str(reply.status), reply.detail
    if reply.status == "ok":
        try:
            return Outcome(read(reply, call), "ok", None, attempts, reply, earlier)
        except Unparsable as error:
            status, detail = "unparsable", str(error)
    unusable = (*earlier, UnusableReply(attempts - 1, status, detail, reply))
    return Outcome(None, status, detail, attempts, reply, unusable)
