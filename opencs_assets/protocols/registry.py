"""All judge protocols, and which of them the settings and the judge lead to.

Another package adds one by an entry point of the group ``opencs.protocols`` that names a
``PairProtocol``; here it is one file and one line of ``_BUILT_IN``.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import polars as pl

from opencs_assets.protocols import fastchat
from opencs_assets.protocols.choice import CHOICE
from opencs_assets.protocols.fastchat import JudgePrompts
from opencs_assets.protocols.merging import RULES
from opencs_assets.protocols.preference import PREFERENCE
from opencs_assets.protocols.protocol import JudgeProtocol, PairProtocol, SingleProtocol
from opencs_assets.protocols.scores import SCORES
from opencs_assets.protocols.single import SINGLE
from opencs_assets.tables.answers import UNANSWERED
from opencs_assets.tables.evaluation import JUDGE_PROTOCOLS
from resources.settings import JudgePromptFamily, Reading, Settings, SettingsError, loaded

ENTRY_POINTS = "opencs.protocols"
_BUILT_IN = (SCORES, CHOICE, PREFERENCE)
# What a judge is asked where nothing is set.
_USUAL: Mapping[Reading, PairProtocol] = {"generated": SCORES, "logprobs": PREFERENCE}


@cache
def pair_protocols() -> Mapping[str, PairProtocol]:
    """The ways to compare two models' answers, by name.

    Raises:
        SettingsError: A package adds what is no protocol, or one whose name or rule can't be.
    """
    protocols = {protocol.name: protocol for protocol in _BUILT_IN}
    for name, added in loaded(ENTRY_POINTS).items():
        where = f"the entry point {name!r} of {ENTRY_POINTS}"
        if not isinstance(added, PairProtocol):
            raise SettingsError(f"{where} is {added!r}, not a PairProtocol; name one")
        if added.name in protocols or added.name == "single":
            raise SettingsError(f"{where} has the name {added.name!r}, which is taken; rename it")
        if added.default_rule not in RULES:
            raise SettingsError(
                f"{where} has the default rule {added.default_rule!r}; take one of "
                f"{', '.join(RULES)}"
            )
        protocols[added.name] = added
    return protocols


def protocol_facts() -> pl.DataFrame:
    """What SQL has to know of each protocol (schema ``JUDGE_PROTOCOLS``)."""
    protocols: list[JudgeProtocol[Any, Any]] = [SINGLE["generated"], *pair_protocols().values()]
    rows = [
        {
            "protocol": protocol.name,
            "by_turn": protocol.by_turn,
            "default_rule": getattr(protocol, "default_rule", None),
            "low": protocol.low,
            "high": protocol.high,
            "unanswered": list(UNANSWERED),
        }
        for protocol in protocols
    ]
    return pl.DataFrame(rows, schema=JUDGE_PROTOCOLS.schema)


def choose_single(settings: Settings, reading: Reading, turns: int) -> SingleProtocol:
    """How answers are judged alone, of a benchmark whose longest question has so many turns.

    Raises:
        SettingsError: What is set can't be done; the message names the setting.
    """
    refuse_misfits(settings, reading)
    prompts = _prompts_of_file(settings, reading, turns)
    return fastchat.single_with(prompts) if prompts else SINGLE[reading]


def choose_pair(settings: Settings, reading: Reading, turns: int) -> PairProtocol:
    """How a matchup's answers are compared; arguments and errors as of ``choose_single``."""
    refuse_misfits(settings, reading)
    name = settings.judging.pair
    protocol = pair_protocols()[name] if name else _USUAL[reading]
    if protocol is CHOICE and (prompts := _prompts_of_file(settings, reading, turns)):
        return fastchat.choice_with(prompts)
    return protocol


def all_versions(
    prompts: JudgePrompts | None,
) -> tuple[Mapping[str, SingleProtocol], Mapping[str, PairProtocol]]:
    """Every single and pair protocol, by version; ``prompts`` are FastChat's of the home."""
    singles = [*SINGLE.values(), *([fastchat.single_with(prompts)] if prompts else [])]
    pairs = [*pair_protocols().values(), *([fastchat.choice_with(prompts)] if prompts else [])]
    return {each.version: each for each in singles}, {each.version: each for each in pairs}


def family_of(version: str) -> JudgePromptFamily:
    """Whose prompts a version is of."""
    return "fastchat" if version.startswith("fastchat-") else "own"


def refuse_misfits(settings: Settings, reading: Reading) -> None:
    """Refuse settings of ``judging`` that a judge of this reading can't keep.

    An endpoint may turn out to give no token probabilities.

    Raises:
        SettingsError: The message names the settings.
    """
    judging = settings.judging
    if judging.pair is not None:
        known = pair_protocols()
        if judging.pair not in known:
            raise SettingsError(
                f"judging.pair = {judging.pair!r} is no judge protocol; set one of "
                f"{', '.join(known)}, or leave judging.pair unset"
            )
        needed = known[judging.pair].reading
        if needed != reading:
            raise SettingsError(
                f"judging.pair = {judging.pair!r} needs a judge with the reading {needed!r}, but "
                f"roles.judge has {reading!r}; set roles.judge.reading = {needed!r} with a model "
                "that can do it, or leave judging.pair unset"
            )
    if judging.prompts == "fastchat" and reading == "logprobs":
        raise SettingsError(
            "judging.prompts = 'fastchat' needs a judge with the reading 'generated', but "
            "roles.judge has 'logprobs'; set roles.judge.reading = 'generated', or leave "
            "judging.prompts unset"
        )


def _prompts_of_file(settings: Settings, reading: Reading, turns: int) -> JudgePrompts | None:
    family = settings.judging.prompts
    if family == "own" or reading == "logprobs":
        return None
    if family is None and turns > fastchat.MOST_TURNS:
        return None
    prompts = fastchat.find_prompts(settings.home)
    if family is None:
        return prompts
    if prompts is None:
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
    return prompts
