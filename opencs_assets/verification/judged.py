"""The verdicts that were judged here: each row from its reply, each reply from its request.

A verdict holds if the judge was asked exactly what follows from the questions, answers and prompts
as they are, in the order that the row names, and if its reply, read again, says what the row says.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import polars as pl

from opencs_assets.config.experiments import Experiments
from opencs_assets.protocols import fastchat
from opencs_assets.protocols.merging import merged_outcomes, swapped_back
from opencs_assets.protocols.protocol import PairProtocol, SingleProtocol
from opencs_assets.protocols.reading import PairReply
from opencs_assets.protocols.registry import all_versions, pair_protocols
from opencs_assets.protocols.stopping import EarlyStop, batches, look
from opencs_assets.protocols.tasks import (
    NO_ANSWER,
    STOPPED,
    PairTask,
    SingleTask,
    pair_tasks,
    single_tasks,
)
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from opencs_assets.verification.findings import (
    Findings,
    Kind,
    VerificationFault,
    partition_name,
    shown,
)
from opencs_assets.verification.replaying import Replayed, judge_roles, replay
from opencs_assets.verification.stored import Stored, stored_replies
from opencs_assets.verification.tables import check_files, duplicated_keys, read_table
from resources.llm.request import sampling_of
from resources.llm.store import ReplyStore
from resources.llm.types import Outcome
from resources.settings import Settings

Task = TypeVar("Task", bound=SingleTask | PairTask)
Row = dict[str, Any]
RowKey = tuple[Any, ...]
SINGLE, PAIR = "single_verdicts", "pairwise_verdicts"
# Where a call failed or did not fit, no reply is kept, so that the next run asks again.
_NOT_KEPT = frozenset({"failed", "too_long"})
_READ_FROM = "the reply that the verdict was read from"


@dataclass(frozen=True)
class _Place(Generic[Task]):
    """One partition of verdicts, and what was expected of it.

    Attributes:
        table: The table.
        partition: The partition.
        tasks: The expected judgments by the row's key.
        sides: Models that are judged: one, or a and b.
        protocols: Ways to ask, by version.
        says: Gives columns of a row from its task, the protocol and what came of the call.
    """

    table: str
    partition: Mapping[str, str]
    tasks: Mapping[RowKey, Task]
    sides: tuple[str, ...]
    protocols: Mapping[str, Any]
    says: Callable[[Any, Any, Outcome[Any]], Row]

    def key_of(self, row: Row) -> RowKey:
        """The key of a row, as in ``tasks``."""
        return tuple(row[name] for name in TABLES[self.table].key)

    def fault(self, kind: Kind, key: RowKey, found: str, expected: str) -> VerificationFault:
        """Something that is wrong with the row of a key."""
        benchmark, question, turn, *order = key
        row = f"{benchmark} question {question} turn {turn}"
        if order:
            row += f", {order[0]} shown first"
        where = partition_name(self.partition)
        return VerificationFault("judged", kind, self.table, where, row, found, expected)

    def differences(self, row: Row, expected: Row) -> list[VerificationFault]:
        """One fault a column of the row that is not as expected."""
        key = self.key_of(row)
        return [
            self.fault("edited", key, f"{name} {shown(row[name])}", f"{name} {shown(value)}")
            for name, value in expected.items()
            if row[name] != value
        ]


class Judged:
    """Looks at all verdicts that were judged here; ``findings`` takes what is found."""

    def __init__(
        self,
        lake: Lake,
        store: ReplyStore,
        settings: Settings,
        experiments: Experiments,
        findings: Findings,
    ) -> None:
        self._lake = lake
        self._store = store
        self._settings = settings
        self._experiments = experiments
        self._findings = findings
        self._looked_up: dict[str, Stored] = {}
        self._counted: set[str] = set()
        self._singles, self._pairs = all_versions(self._published())

    def check(self) -> None:
        """Look at every partition of both tables."""
        for name in (SINGLE, PAIR, "benchmark_questions", "model_answers", "outside_answers"):
            check_files(self._lake, name, "judged", self._findings)
        questions = self._read("benchmark_questions", {})
        if questions is None:
            return
        for partition in self._lake.partitions(SINGLE):
            self._check_single(partition, questions)
        for partition in self._lake.partitions(PAIR):
            self._check_pair(partition, questions)

    def _published(self) -> fastchat.JudgePrompts | None:
        try:
            return fastchat.find_prompts(self._settings.home)
        except fastchat.JudgePromptsError as error:
            self._findings.note(f"FastChat's prompts are not read: {error}")
            return None

    def _read(self, name: str, partition: Mapping[str, str]) -> pl.DataFrame | None:
        if not self._lake.exists(name, partition):
            return None
        return read_table(self._lake, name, partition, "judged", self._findings)

    def _answers(self, model: str, dataset: str) -> pl.DataFrame | None:
        if model in self._experiments.outside_models:
            return self._read("outside_answers", {"outside_model": model})
        return self._read("model_answers", {"dataset": dataset, "experiment": model})

    def _check_single(self, partition: Mapping[str, str], questions: pl.DataFrame) -> None:
        rows = self._read(SINGLE, partition)
        if rows is None:
            return
        model = partition["experiment"]
        answers = self._answers(model, partition["dataset"])
        if answers is None:
            self._lacks_answers(SINGLE, partition, rows, model)
            return
        tasks = {_key(task): task for task in single_tasks(questions, answers)}
        self._check_rows(
            _Place(SINGLE, partition, tasks, (model,), self._singles, _single_says), rows
        )

    def _check_pair(self, partition: Mapping[str, str], questions: pl.DataFrame) -> None:
        rows = self._read(PAIR, partition)
        if rows is None or not rows.height:
            return
        declared = self._experiments.matchups.get(partition["matchup"])
        first = rows.row(0, named=True)
        if declared is not None:
            sides, benchmark = (declared.model_a, declared.model_b), declared.benchmark
        else:
            sides, benchmark = (first["model_a"], first["model_b"]), first["benchmark"]
            self._findings.note(
                f"{PAIR}, {partition_name(partition)}: the matchup is not declared any more; "
                "its rows say which models they compare"
            )
        given = [self._answers(model, partition["dataset"]) for model in sides]
        for model, answers in zip(sides, given, strict=True):
            if answers is None:
                self._lacks_answers(PAIR, partition, rows, model)
        if given[0] is None or given[1] is None:
            return
        # One damaged row must not decide what is expected of all.
        usual = rows["protocol"].drop_nulls().mode().sort()
        protocol = pair_protocols().get(usual[0]) if usual.len() else None
        # The package of an unknown protocol is gone; its rows say whether it judged by turn.
        by_turn = protocol.by_turn if protocol else bool((rows["turn"] > 0).any())
        tasks = {
            _key(task): task
            for task in pair_tasks(questions, given[0], given[1], benchmark, by_turn=by_turn)
        }
        self._check_rows(_Place(PAIR, partition, tasks, sides, self._pairs, _pair_says), rows)

    def _lacks_answers(
        self, table: str, partition: Mapping[str, str], rows: pl.DataFrame, model: str
    ) -> None:
        self._findings.count("judged", f"{table}: rows", rows.height)
        fault = VerificationFault(
            "judged", "missing", table, partition_name(partition), f"all {rows.height} rows",
            f"verdicts on answers of {model}, of which there are none", "answers that were judged",
        )  # fmt: skip
        self._findings.add(f"{table}: rows", [fault])

    def _check_rows(self, place: _Place[Task], frame: pl.DataFrame) -> None:
        what = f"{place.table}: rows"
        rows = frame.to_dicts()
        self._findings.count("judged", what, max(frame.height, len(place.tasks)))
        for *values, times in duplicated_keys(frame, TABLES[place.table].key).iter_rows():
            fault = place.fault("duplicated", tuple(values), f"{times} rows", "one row")
            self._findings.add(what, [fault])
        there = {place.key_of(row) for row in rows}
        for key in place.tasks:
            if key not in there:
                fault = place.fault("missing", key, "no row", "a verdict on it")
                self._findings.add(what, [fault])
        self._looked_up.clear()
        checked = list(self._replayed(place, rows))
        for row, replayed in checked:
            self._findings.add(what, self._faults_of(place, row, replayed))
        if place.table == PAIR:
            self._findings.add(what, self._stops(place, checked))

    def _replayed(
        self, place: _Place[Task], rows: Sequence[Row]
    ) -> Iterator[tuple[Row, Replayed[Any] | None]]:
        """Each row with what its replies say now; ``None`` where it can't be asked like that."""
        groups: dict[tuple[str, str], list[int]] = {}
        for number, row in enumerate(rows):
            task = place.tasks.get(place.key_of(row))
            if task is not None and task.answered and row["prompt_version"] in place.protocols:
                groups.setdefault((row["prompt_version"], row["judge"]), []).append(number)
        best_of: dict[int, Replayed[Any]] = {}
        for (version, judge), numbers in groups.items():
            protocol = place.protocols[version]
            items = [place.tasks[place.key_of(rows[number])] for number in numbers]
            best: list[Replayed[Any]] = []
            for role in judge_roles(judge):
                replayed = replay(
                    items, protocol.call, protocol.read, self._look_up, role, protocol.attempts
                )
                best = [
                    new if old.outcome is None and new.outcome is not None else old
                    for old, new in zip(best or replayed, replayed, strict=True)
                ]
                if all(each.outcome is not None for each in best):
                    break
            best_of.update(zip(numbers, best, strict=True))
        for number, row in enumerate(rows):
            yield row, best_of.get(number)

    def _look_up(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        new = [key for key in keys if key not in self._looked_up]
        stored = stored_replies(self._store, new)
        self._looked_up |= stored
        for key in stored.keys() - self._counted:
            self._counted.add(key)
            self._findings.count("judged", "replies")
            if stored[key].changed:
                fault = VerificationFault(
                    "judged", "edited", "replies", "", key,
                    f"a {stored[key].changed} that the judge's answer did not have",
                    "the answer's body as it came, which is kept beside it",
                )  # fmt: skip
                self._findings.add("replies", [fault])
        return self._looked_up

    def _kept(self, row: Row) -> Stored | None:
        """The reply that a row names; ``None`` where there is none."""
        own = row["reply_id"]
        return self._look_up([own]).get(own) if own else None

    def _faults_of(
        self, place: _Place[Task], row: Row, replayed: Replayed[Any] | None
    ) -> list[VerificationFault]:
        key = place.key_of(row)
        task = place.tasks.get(key)
        if task is None:
            return [place.fault("unknown", key, "a verdict", "no benchmark asks this")]
        expected: Row = {"category": task.question.category, "turn": task.turn}
        if len(place.sides) == 2:
            expected |= dict(zip(("model_a", "model_b"), place.sides, strict=True))
        if not task.answered:
            expected |= {"status": NO_ANSWER, "reply_id": None, **_no_value(place.table)}
            return place.differences({**row, "reply_id": row["reply_id"] or None}, expected)
        if row["status"] == STOPPED and place.table == PAIR:
            return place.differences(row, expected | {"reply_id": None} | _no_value(place.table))
        protocol = place.protocols.get(row["prompt_version"])
        if protocol is None:
            return self._older(place, row, task)
        assert replayed is not None  # noqa: S101 (for the type checker: it was replayed)
        expected |= {"protocol": protocol.name, "reading": protocol.reading}
        outcome = replayed.outcome
        if outcome is None:
            if row["status"] in _NOT_KEPT and row["reply_id"] == replayed.asked.key:
                return place.differences(row, expected | _no_value(place.table))
            return [*place.differences(row, expected), self._unasked(place, row, replayed)]
        reply_id = outcome.reply.reply_id
        stored = self._look_up([reply_id])[reply_id]
        if stored.request:
            expected["sampling"] = json.dumps(sampling_of(stored.request), sort_keys=True)
        expected |= {"status": outcome.status, "reply_id": reply_id}
        expected |= place.says(task, protocol, outcome)
        faults = []
        if row["reply_id"] != reply_id and (other := self._kept(row)):
            # What it was asked says more than its key.
            del expected["reply_id"]
            what = _what_changed(task, place.sides, replayed.asked.call.messages, other.messages)
            if isinstance(task, PairTask) and _is_other_order(task, protocol, other):
                what = f"shown_first {shown(task.shown_first)}, and the reply of the other order"
            faults.append(place.fault("edited", key, what, f"reply {reply_id}"))
        faults += place.differences(row, expected)
        asked = replayed.asked.call.messages
        if stored.messages and [dict(each) for each in asked] != [*stored.messages]:
            what = f"a kept request of reply {reply_id} with other words"
            faults.append(place.fault("edited", key, what, "the words that its key is of"))
        reading = stored.readings.get(row["prompt_version"])
        if reading is not None and reading[0] != outcome.status:
            was = f"one that was read as {reading[0]} when it came"
            faults.append(place.fault("edited", key, f"a reply that reads {outcome.status}", was))
        return faults

    def _unasked(self, place: _Place[Task], row: Row, replayed: Replayed[Any]) -> VerificationFault:
        """Why the request that must have been sent has no kept reply."""
        key, asked = place.key_of(row), replayed.asked
        stored = self._kept(row)
        if stored is None:
            lost = f"reply {row['reply_id'] or asked.key} is not in the reply store"
            return place.fault("missing", key, lost, _READ_FROM)
        if stored.model != row["judge"]:
            judge = f"judge {shown(row['judge'])}"
            return place.fault("edited", key, judge, f"{shown(stored.model)}, whose reply it is")
        if asked.call.attempt and row["reply_id"] != asked.key:
            lost = f"the reply to attempt {asked.call.attempt + 1} is not in the reply store"
            return place.fault("missing", key, lost, "every attempt's reply")
        what = _what_changed(place.tasks[key], place.sides, asked.call.messages, stored.messages)
        return place.fault("edited", key, what, "what the judge was asked, which is kept")

    def _older(self, place: _Place[Task], row: Row, task: Task) -> list[VerificationFault]:
        """A verdict by other prompts than today's: as far as its kept request and reading tell."""
        key, version = place.key_of(row), row["prompt_version"]
        stored = self._kept(row)
        if stored is None:
            if row["status"] in _NOT_KEPT:
                return []
            lost = f"reply {row['reply_id'] or '(none)'} is not in the reply store"
            return [place.fault("missing", key, lost, _READ_FROM)]
        if version not in stored.readings:
            read = ", ".join(stored.readings) or "none is kept"
            by = f"one by which its reply was read: {read}"
            return [place.fault("edited", key, f"prompt version {shown(version)}", by)]
        self._findings.note(
            f"{place.table}, {partition_name(place.partition)}: judged with an older prompt "
            f"version ({version}); its rows are compared with what was read from their replies then"
        )
        status, value = stored.readings[version]
        expected: Row = {"judge": stored.model, "status": status, **_no_value(place.table)}
        faults = place.differences(row, expected | _kept_value(place.table, row, value))
        if changed := _parts_not_in(task, place.sides, stored.messages):
            was = "what the judge was shown, which is kept"
            faults.append(place.fault("edited", key, changed, was))
        return faults

    def _stops(
        self, place: _Place[Any], checked: Sequence[tuple[Row, Replayed[Any] | None]]
    ) -> list[VerificationFault]:
        """Questions that were left out because it was clear before: they follow from the rest."""
        left_out = {
            (row["benchmark"], row["question_id"]) for row, _ in checked if row["status"] == STOPPED
        }
        if not left_out:
            return []
        outcomes = {}
        protocol = None
        for row, replayed in checked:
            if replayed is not None and replayed.outcome is not None and row["status"] != STOPPED:
                outcomes[place.tasks[place.key_of(row)]] = replayed.outcome
                protocol = place.protocols[row["prompt_version"]]
        if protocol is not None and self._would_stop_before(place, outcomes, protocol) == left_out:
            return []
        return [
            VerificationFault(
                "judged", "edited", place.table, partition_name(place.partition), "",
                f"{len(left_out)} questions marked {STOPPED}",
                "only those that judging.stop_level, judging.batch and method.seed leave out; "
                "where these were changed since, materialize it again",
            )
        ]  # fmt: skip

    def _would_stop_before(
        self, place: _Place[Any], outcomes: Mapping[PairTask, Any], protocol: PairProtocol
    ) -> set[tuple[str, str]]:
        """The questions that judging in today's batches would leave out."""
        own = self._settings.judging
        early = EarlyStop(own.stop_level, own.batch, self._settings.method.seed)
        asked = [task for task in place.tasks.values() if task.answered]
        left_out = {(task.question.benchmark, task.question.question_id) for task in asked}
        judged: dict[PairTask, Any] = {}
        for batch in batches(asked, early):
            left_out -= {(task.question.benchmark, task.question.question_id) for task in batch}
            judged |= {task: outcomes[task] for task in batch if task in outcomes}
            if look(merged_outcomes(judged, protocol), early.level).is_clear:
                break
        return left_out


def _key(task: SingleTask | PairTask) -> RowKey:
    key = (task.question.benchmark, task.question.question_id, task.turn)
    return (*key, task.shown_first) if isinstance(task, PairTask) else key


def _no_value(table: str) -> Row:
    if table == SINGLE:
        return {"score": None}
    return {"winner": None, "score_a": None, "score_b": None}


def _single_says(task: SingleTask, protocol: SingleProtocol, outcome: Outcome[float]) -> Row:
    return {"score": outcome.value, "with_reference": protocol.shows_reference(task)}


def _pair_says(task: PairTask, protocol: PairProtocol, outcome: Outcome[PairReply]) -> Row:
    if outcome.value is None:
        return _no_value(PAIR)
    return swapped_back(outcome.value, task.shown_first)._asdict()


def _kept_value(table: str, row: Row, value: str | None) -> Row:
    """What a reading that was kept as JSON says of a row; nothing where it has another form."""
    read = json.loads(value) if value is not None else None
    if table == SINGLE:
        return {"score": float(read)} if isinstance(read, int | float) else {}
    if not isinstance(read, dict) or not {"first", "second"} <= read.keys():
        return {}
    first, second = read["first"], read["second"]
    if first is None or second is None:
        better = read.get("better", "")
    else:
        better = "tie" if first == second else "first" if first > second else "second"
    verdict = swapped_back(PairReply(better, first, second), row["shown_first"])
    return verdict._asdict()


def _what_changed(
    task: SingleTask | PairTask,
    sides: tuple[str, ...],
    expected: Sequence[Mapping[str, str]],
    kept: Sequence[Mapping[str, str]],
) -> str:
    """What is not as in the request that was sent."""
    if not kept:
        return "another request than that of its reply"
    if [each["content"] for each in expected] == [each.get("content") for each in kept]:
        return "a reply whose key is not that of its request"
    if changed := _parts_not_in(task, sides, kept):
        return changed
    other_prompts = "prompts that are not those that it was asked with"
    if _system(expected) != _system(kept):
        return other_prompts
    if isinstance(task, PairTask):
        return f"{task.shown_first} shown first, or prompts that it was not asked with"
    return other_prompts


def _is_other_order(task: PairTask, protocol: PairProtocol, stored: Stored) -> bool:
    other = replace(task, shown_first="b" if task.shown_first == "a" else "a")
    asked = protocol.call(other, 0, None).messages
    return [dict(each) for each in asked] == list(stored.messages)


def _system(messages: Sequence[Mapping[str, str]]) -> list[str]:
    return [each.get("content", "") for each in messages if each.get("role") == "system"]


def _parts_not_in(
    task: SingleTask | PairTask, sides: tuple[str, ...], kept: Sequence[Mapping[str, str]]
) -> str:
    """Questions and answers that the kept request does not show."""
    if not kept:
        return ""
    text = "\n".join(each.get("content") or "" for each in kept)
    parts: list[tuple[str, str]] = [
        (f"question, turn {turn}", asked) for turn, asked in enumerate(task.asked, start=1)
    ]
    given = (task.answers,) if isinstance(task, SingleTask) else (task.answers_a, task.answers_b)
    for model, answers in zip(sides, given, strict=True):
        parts += [
            (f"answer of {model} to turn {turn}", answer)
            for turn, answer in enumerate(answers or (), start=1)
        ]
    changed = [name for name, part in parts if part.strip() not in text]
    return f"{' and '.join(changed)} other than what the judge was shown" if changed else ""
