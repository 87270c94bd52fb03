"""What a judge protocol is: its facts, its prompt, what reads its replies, and their version."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from opencs_assets.protocols import words
from opencs_assets.protocols.reading import PairReply
from opencs_assets.protocols.tasks import WHOLE, JudgedQuestion, PairTask, SingleTask
from resources.llm.types import Call, Message, Reply
from resources.settings import JudgePromptFamily, Reading

ATTEMPTS = 3
TOP_LOGPROBS = 40

Task = TypeVar("Task", SingleTask, PairTask)
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class JudgeProtocol(Generic[Task, Value]):
    """A way to ask a judge.

    All verdicts of one result have one version: a hash of every prompt that the protocol can ask
    with, of the sampling and of the parser.

    Attributes:
        name: What verdicts say that they were asked by.
        reading: Whether text or token probabilities are read.
        by_turn: Whether each turn is judged, or the whole conversation at once.
        sampling: Arguments of ``Call`` that say how the judge is sampled.
        messages: Makes the messages for a task and, asked again, the reason why the reply before
            could not be read.
        parse: Reads a reply to those messages; raises ``Unparsable``.
        parser: Version of ``parse``.
        low: Lowest score; unset where the judge gives none.
        high: Highest score.
        family: Whose prompts are asked.
        attempts: Most calls for a verdict.
        variant: What the version is told apart by where protocols of one name differ.
        prompts: What is hashed of prompts from a file; unset: the messages for sample tasks.
    """

    name: str
    reading: Reading
    by_turn: bool
    sampling: Mapping[str, Any]
    messages: Callable[[Task, str | None], tuple[Message, ...]]
    parse: Callable[[Reply, Sequence[Message]], Value]
    parser: str
    low: float | None = None
    high: float | None = None
    family: JudgePromptFamily = "own"
    attempts: int = ATTEMPTS
    variant: str = ""
    prompts: Sequence[Any] = ()

    @cached_property
    def version(self) -> str:
        """Version of prompts, sampling and parser."""
        prompts = self.prompts or [self.messages(task, None) for task in self._sample_tasks()]
        is_repeated = self.attempts > 1 and self.reading == "generated"
        again = words.repeated("<reason>") if is_repeated else ""
        content = [prompts, self.sampling, self.attempts, again, self.parser]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        name = f"{self.family}-{self.name}{self.variant}"
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def call(self, task: Task, attempt: int, reason: str | None) -> Call:
        """The call for one answered task; ``reason`` says why the reply before was not read."""
        return Call(self.messages(task, reason), self.version, attempt=attempt, **self.sampling)

    def read(self, reply: Reply, call: Call) -> Value:
        """What the reply to a call says.

        Raises:
            Unparsable: It can't be read.
        """
        return self.parse(reply, call.messages)

    def _sample_tasks(self) -> list[Task]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SingleProtocol(JudgeProtocol[SingleTask, float]):
    """A way to ask for a score of one answer; the judge may be shown a reference answer."""

    shows_reference: Callable[[SingleTask], bool]

    def _sample_tasks(self) -> list[SingleTask]:
        return [
            SingleTask(_question(references), turn, ("<a1>", "<a2>")[:turn])
            for turn, references in _SAMPLES
        ]


@dataclass(frozen=True, kw_only=True)
class PairProtocol(JudgeProtocol[PairTask, PairReply]):
    """A way to ask which of two models answered better, in one order at a time.

    Its results are shown by ``default_rule`` of ``merging.RULES`` unless another is asked for.
    """

    default_rule: str

    def _sample_tasks(self) -> list[PairTask]:
        tasks = []
        for turn, references in _SAMPLES:
            judged = turn if self.by_turn else WHOLE
            answers = ("<a1>", "<a2>")[: judged or 2], ("<b1>", "<b2>")[: judged or 2]
            tasks.append(PairTask(_question(references), judged, "a", *answers))
        return tasks


# What the prompts of a protocol differ by: the turn, and whether there is a reference.
_SAMPLES = [(turn, known) for known in ((), ("<r1>", "<r2>")) for turn in (1, 2)]


def _question(references: tuple[str, ...]) -> JudgedQuestion:
    return JudgedQuestion("", "", "", ("<q1>", "<q2>"), references)
