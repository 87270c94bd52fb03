"""The ways to ask a judge: which prompts, how it is sampled, how it is read, and their version.

A protocol is chosen by the settings and by what the judge can do. All verdicts of one result have
one version: a hash of every prompt that the protocol can ask with, of the sampling and the parser.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from opencs_assets.verdicts import fastchat, prompts, replies
from opencs_assets.verdicts.fastchat import JudgePrompts
from opencs_assets.verdicts.tasks import JudgedQuestion, PairTask, SingleTask
from resources.llm.types import Call, Message, Reply
from resources.settings import JudgePromptFamily, PairProtocol, Reading, Settings, SettingsError

ATTEMPTS = 3
SCORE_TOKENS = 256
# Reasons come before the verdict here, and a reply that is cut has none.
CHOICE_TOKENS = 1024
TOP_LOGPROBS = 40
LABEL_GRAMMAR = 'root ::= "A" | "B"'
DIGIT_GRAMMAR = "root ::= [1-9]"

Version = Literal["single", "scores", "choice", "preference"]


@dataclass(frozen=True)
class Single:
    """A score from 1 to 10 of one answer, by turn (MT-Bench).

    Attributes:
        reading: Whether text or token probabilities are read.
        published: FastChat's prompts, where they are asked with.
    """

    name: ClassVar[Literal["single"]] = "single"
    reading: Reading
    published: JudgePrompts | None = None

    @property
    def family(self) -> JudgePromptFamily:
        """Whose prompts are asked."""
        return "fastchat" if self.published else "own"

    @property
    def attempts(self) -> int:
        """Most calls for a verdict; FastChat asks once and counts what it can't read."""
        return 1 if self.published else ATTEMPTS

    @cached_property
    def version(self) -> str:
        """Version of prompts, sampling and parser."""
        asked = _published(self.published, "single") or [
            self._messages(_probe(turn, references), None) for turn, references in _PROBES
        ]
        return _version(self.name, self.reading, self.family, asked, self._sampling, self.attempts)

    def call(self, task: SingleTask, attempt: int, reason: str | None) -> Call:
        """The call for one answer.

        Args:
            task: An answered task.
            attempt: 0-based.
            reason: Why the reply before could not be read.
        """
        return Call(self._messages(task, reason), self.version, attempt=attempt, **self._sampling)

    def read(self, reply: Reply, call: Call) -> float:
        """The score in [1, 10]; see ``replies.read_single``."""
        return replies.read_single(reply, call.messages, self.reading, self.family)

    def shows_reference(self, task: SingleTask) -> bool:
        """Whether the judge is shown a reference answer."""
        if self.published:
            return any(map(str.strip, task.references))
        return bool(prompts.last_reference(task.asked, task.references))

    @property
    def _sampling(self) -> Mapping[str, Any]:
        return _sampling("single", self.reading, self.family)

    def _messages(self, task: SingleTask, reason: str | None) -> tuple[Message, ...]:
        if self.published:
            return fastchat.single_messages(self.published, task)
        return prompts.single_messages(
            task.asked,
            task.answers or (),
            task.references,
            generated=self.reading == "generated",
            reason=reason,
        )


@dataclass(frozen=True)
class Pair:
    """Two models' answers compared, in one order at a time.

    Attributes:
        name: ``scores`` (two from 1 to 10), ``choice`` (A, B or a tie by turn, FastChat) or
            ``preference`` (the probability of a label, AlpacaEval).
        published: FastChat's prompts, where they are asked with.
    """

    name: PairProtocol
    published: JudgePrompts | None = None

    @property
    def reading(self) -> Reading:
        """Whether text or token probabilities are read."""
        return "logprobs" if self.name == "preference" else "generated"

    @property
    def by_turn(self) -> bool:
        """Whether each turn is judged, or the whole conversation at once."""
        return self.name == "choice"

    @property
    def family(self) -> JudgePromptFamily:
        """Whose prompts are asked."""
        return "fastchat" if self.published else "own"

    @property
    def attempts(self) -> int:
        """Most calls for a verdict; FastChat asks once and counts what it can't read."""
        return 1 if self.published else ATTEMPTS

    @cached_property
    def version(self) -> str:
        """Version of prompts, sampling and parser."""
        asked = _published(self.published, "choice") or [
            self._messages(_pair_probe(turn if self.by_turn else 0, references), None)
            for turn, references in _PROBES
        ]
        return _version(self.name, self.reading, self.family, asked, self._sampling, self.attempts)

    def call(self, task: PairTask, attempt: int, reason: str | None) -> Call:
        """The call for one order; arguments as those of ``Single.call``."""
        return Call(self._messages(task, reason), self.version, attempt=attempt, **self._sampling)

    def read(self, reply: Reply, call: Call) -> replies.PairReply:
        """Who is better, in the order shown; see ``replies.read_pair``."""
        return replies.read_pair(reply, call.messages, self.name, self.family)

    @property
    def _sampling(self) -> Mapping[str, Any]:
        return _sampling(self.name, self.reading, self.family)

    def _messages(self, task: PairTask, reason: str | None) -> tuple[Message, ...]:
        if self.published:
            return fastchat.choice_messages(self.published, task)
        return prompts.pair_messages(
            self.name, task.asked, *task.shown, task.references, reason=reason
        )


def choose_single(settings: Settings, reading: Reading, turns: int) -> Single:
    """How a benchmark's answers are judged alone.

    Args:
        settings: The home's settings.
        reading: What the judge can do.
        turns: Turns of the benchmark's longest question.

    Raises:
        SettingsError: What is set can't be done; the message names the setting.
    """
    _must_fit(settings, reading)
    return Single(reading, _found_prompts(settings, reading, turns))


def choose_pair(settings: Settings, reading: Reading, turns: int) -> Pair:
    """How a matchup's answers are compared; arguments and errors as of ``choose_single``."""
    _must_fit(settings, reading)
    name = settings.judging.pair or ("preference" if reading == "logprobs" else "scores")
    return Pair(name, _found_prompts(settings, reading, turns) if name == "choice" else None)


def family_of(version: str) -> JudgePromptFamily:
    """Whose prompts a version is of, as the functions of ``replies`` take it."""
    return "fastchat" if version.startswith("fastchat-") else "own"


def _must_fit(settings: Settings, reading: Reading) -> None:
    """An endpoint may turn out to give no token probabilities, which are then not read."""
    settings.judging.must_fit(reading)


def _found_prompts(settings: Settings, reading: Reading, turns: int) -> JudgePrompts | None:
    wanted = settings.judging.prompts
    if wanted == "own" or reading == "logprobs":
        return None
    if wanted is None and turns > fastchat.MOST_TURNS:
        return None
    found = fastchat.find_prompts(settings.home)
    if wanted is None:
        return found
    if found is None:
        places = " or ".join(str(settings.home / place) for place in fastchat.PLACES)
        raise SettingsError(
            "judging.prompts = 'fastchat' needs FastChat's file of prompts at "
            f"{places}; put it there, or leave judging.prompts unset"
        )
    if turns > fastchat.MOST_TURNS:
        raise SettingsError(
            f"judging.prompts = 'fastchat' can't judge a question of {turns} turns, as FastChat's "
            f"prompts are made for {fastchat.MOST_TURNS}; leave judging.prompts unset"
        )
    return found


def _sampling(protocol: Version, reading: Reading, family: JudgePromptFamily) -> Mapping[str, Any]:
    if family == "fastchat":
        return {"max_tokens": fastchat.MAX_TOKENS, "temperature": 0.0}
    if reading == "generated":
        tokens = CHOICE_TOKENS if protocol == "choice" else SCORE_TOKENS
        return {"max_tokens": tokens, "temperature": 0.0}
    return {
        "max_tokens": 1,
        "temperature": 0.0,
        "grammar": DIGIT_GRAMMAR if protocol == "single" else LABEL_GRAMMAR,
        "top_logprobs": TOP_LOGPROBS,
    }


def _version(
    protocol: Version,
    reading: Reading,
    family: JudgePromptFamily,
    asked: Sequence[Any],
    sampling: Mapping[str, Any],
    attempts: int,
) -> str:
    parser = replies.PARSERS[protocol, family]
    again = prompts.repeated("<reason>") if attempts > 1 and reading == "generated" else ""
    text = json.dumps(
        [asked, sampling, attempts, again, parser], sort_keys=True, ensure_ascii=False
    )
    name = f"{family}-{protocol}" + (f"-{reading}" if protocol == "single" else "")
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _published(found: JudgePrompts | None, protocol: fastchat.Protocol) -> list[Any]:
    return [vars(prompt) for prompt in found.of(protocol)] if found else []


# What a protocol's own prompts differ by: the turn, and whether there is a reference.
_PROBES = [(turn, known) for known in ((), ("<r1>", "<r2>")) for turn in (1, 2)]


def _question(references: tuple[str, ...]) -> JudgedQuestion:
    return JudgedQuestion("", "", "", ("<q1>", "<q2>"), references)


def _probe(turn: int, references: tuple[str, ...]) -> SingleTask:
    return SingleTask(_question(references), turn, ("<a1>", "<a2>")[:turn])


def _pair_probe(turn: int, references: tuple[str, ...]) -> PairTask:
    answers = ("<a1>", "<a2>")[: turn or 2], ("<b1>", "<b2>")[: turn or 2]
    return PairTask(_question(references), turn, "a", *answers)
