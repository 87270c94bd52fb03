"""The client through which every stage asks its model.

Calls are looked up in the reply store, each missing one is sent once, and each reply is in the
store before it is returned. So a stage that is run again, after a crash or on purpose, pays only
for new calls. Calls stream in and replies stream out: memory does not grow with their number.
"""

import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from resources.llm.batch.batching import BatchStage
from resources.llm.batch.ledger import open_batches_hold
from resources.llm.batch.runner import BatchRunner
from resources.llm.budget import Budget
from resources.llm.coordination import Coordination
from resources.llm.embedded import EmbeddedServer
from resources.llm.endpoint import Endpoint, Sent
from resources.llm.engine import Engine, QueuedCall
from resources.llm.errors import BudgetError, LLMError, Unparsable
from resources.llm.plan import Plan
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
# Another attempt may mend these; a prompt that is too long stays so, a failed call was retried.
TRIED_AGAIN = frozenset({"unparsable", "truncated", "refused", "garbled"})
# So many calls are looked up at once, and so many may be on their way at once.
_CHUNK = 2_048
_WINDOW = 8_192
_READINGS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A call, with the number of the item that it asks about and the attempt."""

    number: int
    call: Call
    attempt: int = 0


class _Feed:
    """Calls still to be asked for: those to be tried again first, then the source."""

    def __init__(self, source: Iterable[_Ticket] = ()) -> None:
        self.source = iter(source)
        self.again: deque[_Ticket] = deque()

    def take(self, most: int) -> list[_Ticket]:
        tickets = [self.again.popleft() for _ in range(min(most, len(self.again)))]
        tickets += itertools.islice(self.source, most - len(tickets))
        return tickets


class LLMClient:
    """Calls of one stage to one role's model, which has the name of a role or an outside model's.

    The client closes the store. The store keeps stage and dataset with each reply. ``models`` is
    the folder of the embedded models, and ``run`` the run that pays. ``reporter`` makes a progress
    report from its label and a number of calls; ``say`` takes a line for a person. For estimates
    endpoints are not asked what they can do (``ask_endpoints``).
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
        # A client outside of any run has a limit for itself.
        self._run = run or f"no-run-{uuid.uuid4().hex[:12]}"
        self._reporter = reporter
        self._say = say or (lambda line: None)
        self._ask_endpoints = ask_endpoints
        # All calls so far are counted here.
        self.usage = Usage()
        self._price = price_of(role, home)
        self._tokens = TokenCounter(role.model)
        self._reading: Reading | None = None
        self._shared_or_none: Coordination | None = None
        self._unwritten: list[ReadingRow] = []
        self.report = CallReport()

    def __enter__(self) -> "LLMClient":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._shared_or_none is not None:
                self._shared_or_none.close()
        finally:
            self._store.close()

    @property
    def reading(self) -> Reading:
        """How replies are read: as set, or from the text where an endpoint lacks probabilities."""
        if self._reading is None:
            self._reading = self.role.resolved_reading
            if self._reading == "logprobs" and self._ask_endpoints and not self.role.embedded:
                with self._engine(None) as engine:
                    if not engine.learn_logprobs():
                        self._reading = "generated"
        return self._reading

    @property
    def structured(self) -> Structured:
        """How the endpoint is asked to hold replies to their form."""
        return asked_form(self.role)

    @property
    def model_label(self) -> str:
        """The model's name in tables."""
        return self.role.model_label

    def ceilings(self) -> Mapping[str, tuple[float, float]]:
        """Dollars spent so far and the ceiling, of run, asset and month where one is set.

        The ceilings can be read after the client was closed, too.
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
        """Yield each call's position and reply as the replies come; a fault is a reply's status.

        Args:
            calls: The calls; they are read as replies are taken. Equal ones are sent once.
            label: Names the work in the progress report.
            total: How many calls there are, where that is known, for the progress report.

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
        """Get a reply for each call, in the calls' order; raises as ``stream`` does."""
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
        """Get a parsed value for each item, asking again where a reply can't be used.

        Args:
            items: The items, in whose order the outcomes are returned.
            build: Makes the call from item, attempt (0-based, which it must set in the call) and
                the reason why the attempt before had no value (``None`` at first).
            parse: Reads a reply; raises ``Unparsable`` where it says nothing usable.
            label: Names the work in the progress report.
            max_attempts: Most calls an item.

        Raises:
            LLMError: No call can succeed or the budget is reached, as in ``stream``.
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
        """Do as ``complete_parsed`` does, where ``read`` needs the call beside its reply."""
        outcomes: dict[int, Outcome[T]] = {}
        feed = _Feed()

        def settles(ticket: _Ticket, reply: Reply) -> bool:
            attempt = ticket.attempt + 1
            earlier = outcomes[ticket.number].unusable if ticket.attempt else ()
            outcome = outcome_of(reply, ticket.call, read, attempt, earlier)
            outcomes[ticket.number] = outcome
            self._note(ticket.call, outcome)
            if outcome.status not in TRIED_AGAIN or attempt >= max_attempts:
                return True
            call = _built(build, items[ticket.number], attempt, outcome.detail)
            feed.again.append(_Ticket(ticket.number, call, attempt))
            return False

        def first_call(number: int) -> Call:
            return _built(build, items[number], 0, None)

        try:
            self._settle(len(items), first_call, settles, feed, label)
        finally:
            self._write_readings()
        return [outcomes[number] for number in range(len(items))]

    def sampling(self, call: Call) -> dict[str, Any]:
        """How a call would be sampled by an endpoint that has all that it asks for."""
        prepared = prepare(call, self.role)
        return sampling_of(request_body(prepared, self.role, self.role.model))

    def sampled(self, reply_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """How the requests of stored replies asked for them to be sampled, by the replies' ids.

        A reply whose request was not kept is left out.
        """
        requests = self._store.requests(sorted(set(reply_ids)))
        bodies = {key: orjson.loads(request or "{}") for key, request in requests.items()}
        return {key: sampling_of(body) for key, body in bodies.items() if body}

    def estimate(self, calls: Iterable[Call]) -> Estimate:
        """Estimate what the calls would take, without making any or starting a server."""
        plan = self._plan()
        for _ in self._look_up(enumerate(calls), plan):
            pass
        return self._estimated(plan)

    def _plan(self) -> Plan:
        return Plan(self.role, self._price, self._tokens)

    def _settle(
        self,
        count: int,
        call_of: Callable[[int], Call],
        settles: Callable[[_Ticket, Reply], bool],
        feed: _Feed,
        label: str,
    ) -> None:
        """Settle each of a known number of items: first those with stored replies, then the others.

        ``call_of`` makes an item's first call. It makes the calls that are to be sent anew, so that
        not all prompts are held at once. ``settles`` takes a reply and says whether it settles its
        item; where not, it may add another call to the feed.
        """
        plan = self._plan()
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
                self._run_batches(plan, call_of)
            feed.source = (_Ticket(number, call_of(number)) for number in plan.missing)
            for ticket, reply in self._replies(feed, plan):
                settle(ticket, reply)

    def _look_up(
        self, numbered: Iterable[tuple[int, Call]], plan: Plan
    ) -> Iterator[tuple[_Ticket, Reply]]:
        """Yield the calls with stored replies, and note the others in the plan."""
        for chunk in chunked(numbered, _CHUNK):
            prepared_calls = [prepare(call, self.role) for _, call in chunk]
            stored = self._store.get_many(list({prepared.key for prepared in prepared_calls}))
            for (number, call), prepared in zip(chunk, prepared_calls, strict=True):
                plan.calls += 1
                reply = stored.get(prepared.key)
                if reply is not None:
                    yield _Ticket(number, call), reply
                else:
                    plan.note(number, prepared)

    def _replies(self, feed: _Feed, plan: Plan | None = None) -> Iterator[tuple[_Ticket, Reply]]:
        """Yield a reply for each call of the feed; whoever takes them may add to the feed."""
        plan = plan or self._plan()
        pending: dict[str, list[_Ticket]] = {}
        engine: Engine | None = None
        with ExitStack() as opened:
            while True:
                while len(pending) < _WINDOW and (tickets := feed.take(_CHUNK)):
                    prepared_calls = [prepare(ticket.call, self.role) for ticket in tickets]
                    stored = self._store.get_many([prepared.key for prepared in prepared_calls])
                    new: list[QueuedCall] = []
                    for ticket, prepared in zip(tickets, prepared_calls, strict=True):
                        reply = stored.get(prepared.key)
                        if reply is not None:
                            self._count(reply, now=False)
                            yield ticket, reply
                        elif prepared.key in pending:
                            pending[prepared.key].append(ticket)
                        else:
                            pending[prepared.key] = [ticket]
                            new.append(self._queued(prepared, plan))
                    if new:
                        if engine is None:
                            engine = opened.enter_context(self._engine(self._opened_budget()))
                        engine.submit(new)
                if not pending or engine is None:
                    return
                for done in engine.take():
                    reply = done.reply
                    for ticket in pending.pop(done.work.prepared.key):
                        self._count(reply, now=done.completed and not reply.stored)
                        yield ticket, reply
                        # A repeated call was not paid for again.
                        reply = replace(done.reply, stored=True) if done.completed else reply

    def _queued(self, prepared: PreparedCall, plan: Plan) -> QueuedCall:
        most_usd = 0.0
        if self._price:
            most_usd = self._price.cost(prepared.most_prompt_tokens, prepared.max_tokens)
        return QueuedCall(prepared, plan.expected_tokens(prepared), most_usd)

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
        """The coordination with other processes, which is opened before the first call is sent."""
        if self._shared_or_none is None:
            self._shared_or_none = Coordination(self._store.url)
        return self._shared_or_none

    def _record(self, prepared: PreparedCall, sent: Sent, endpoint: Endpoint) -> Record:
        return Record(
            reply=sent.reply,
            request=sent.request,
            prompt_bytes=prepared.prompt_bytes,
            raw=sent.raw,
            **self._origin(prepared, endpoint),
        )

    def _sent_call(self, work: QueuedCall, endpoint: Endpoint) -> SentCall:
        return SentCall(
            reply_id=work.prepared.key,
            owner=self._shared.owner,
            most_usd=work.most_usd if self._price else None,
            **self._origin(work.prepared, endpoint),
        )

    def _origin(self, prepared: PreparedCall, endpoint: Endpoint) -> dict[str, Any]:
        """The values of a call's ``CallOrigin``."""
        return {
            "role": self.role_name,
            "stage": self.stage,
            "dataset": self._dataset,
            "run": self._run,
            "model": self.role.model_label,
            "provider": provider_of(endpoint.base_url),
            "endpoint": endpoint.base_url,
            "prompt_version": prepared.call.prompt_version,
        }

    def _opened_budget(self) -> Budget | None:
        """The budget of the calls; ``None`` where they have no ceiling or cost nothing."""
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
        ceilings: dict[str, tuple[float | None, dict[str, Any]]] = {
            f"run {run}": (budget.max_cost_usd, {"run": run}),
            f"asset {run} {stage}": (
                budget.max_cost_usd_per_asset.get(stage),
                {"run": run, "stage": stage},
            ),
            f"month {month:%Y-%m}": (budget.max_cost_usd_per_month, {"since": month}),
        }
        return {
            scope: (most, which) for scope, (most, which) in ceilings.items() if most is not None
        }

    def _server(self) -> EmbeddedServer | None:
        """The embedded server, for an embedded role."""
        if not self.role.embedded:
            return None
        try:
            return EmbeddedServer(self._home, served_gguf(self._models))
        except ModelError as error:
            raise LLMError(f"{self.role_name}: {error}") from error

    def _run_batches(self, plan: Plan, call_of: Callable[[int], Call]) -> None:
        """Have the provider's Batch API make missing calls, where that is set.

        Batches that hold some of the calls already, left open by this or another process, are
        followed in any case.
        """
        role = self.role
        if role.embedded:
            return
        submit = plan.goes_in_batches
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
            self.usage += runner.usage

    def _estimated(self, plan: Plan) -> Estimate:
        return plan.estimate(self._store.measured(self.role.model_label, self.role_name))

    def _announce(self, plan: Plan) -> None:
        """Say what the calls will take, before the first is sent."""
        estimate = self._estimated(plan)
        self.report.expect(len(plan.keys), estimate.cost_usd)
        self._say(plan.announcement(estimate))

    def _note(self, call: Call, outcome: Outcome[Any]) -> None:
        """Note the reading of a reply that is in the store."""
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
                bar.more = lambda: self.report.parts(self.usage)
                yield bar
        finally:
            self.usage += Usage(seconds=time.monotonic() - started)

    def _count(self, reply: Reply, *, now: bool) -> None:
        """Count a call; its tokens and dollars only if they were paid for now."""
        self.usage += Usage(
            calls=1,
            stored=int(reply.stored),
            failed=int(reply.status != "ok"),
            prompt_tokens=reply.prompt_tokens if now else 0,
            completion_tokens=reply.completion_tokens if now else 0,
            cost_usd=reply.cost_usd if now else 0.0,
        )


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
    """An item's outcome after one more reply.

    ``read`` reads a call's reply and raises ``Unparsable`` where it says nothing usable;
    ``attempts`` counts this call, too.
    """
    status, detail = str(reply.status), reply.detail
    if reply.status == "ok":
        try:
            return Outcome(read(reply, call), "ok", None, attempts, reply, earlier)
        except Unparsable as error:
            status, detail = "unparsable", str(error)
    unusable = (*earlier, UnusableReply(attempts - 1, status, detail, reply))
    return Outcome(None, status, detail, attempts, reply, unusable)
