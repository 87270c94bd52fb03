"""Matchups by the block: who is compared with whom, from names and patterns.

A block names either experiments and the baselines that each of them is compared with, or a list of
which all are compared with all; each on each of its benchmarks.
"""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resources.errors import MendableError

Parity = Literal["epochs", "steps", "tokens", "declared"]
DEFAULT_BENCHMARK = "smoke"
_Key = tuple[frozenset[str], Any]


class BlockError(MendableError):
    """A block can't be followed; the message names block, field and reason."""


class MatchupBlock(BaseModel):
    """Matchups by the block, named ``a_vs_b@base_model.benchmark``.

    A name may be a pattern of experiments with ``*`` and ``?``, such as ``opencs@*`` (in YAML
    within quotation marks where it begins with a star).

    Attributes:
        experiments: Experiments that are compared with each of the baselines.
        baselines: Experiments and outside models; of the experiment's own base model only, unless
            ``across_base_models``. One that is the experiment itself is passed over.
        round_robin: Instead of both: experiments and outside models, all against all.
        benchmarks: Benchmarks that each pair is compared on.
        parity: Budget in which both sides of each matchup are equal, as in a matchup.
        across_base_models: Compare experiments of different base models, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiments: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    round_robin: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = Field(min_length=1)
    parity: Parity = "epochs"
    across_base_models: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> "MatchupBlock":
        against, all_of = (self.experiments, self.baselines), (self.round_robin,)
        if any(against) == any(all_of) or (any(against) and not all(against)):
            raise ValueError("give `experiments` and `baselines`, or `round_robin`")
        return self


def expand_blocks(
    blocks: Mapping[str, Any],
    base_models: Mapping[str, str | None],
    outside_models: Collection[str],
    declared: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """The matchups that blocks make beside those that are declared.

    A declared matchup wins over one of a block that has its name, or compares the same two on the
    same benchmark. Two blocks may make the same matchup, if by the same parity.

    Args:
        blocks: Blocks by name, as read from YAML; one that is not valid makes nothing here.
        base_models: Base model of each experiment, by the experiment's name.
        outside_models: Names of the outside models.
        declared: Declared matchups by name, as read from YAML.

    Returns:
        Matchups by name, each with the ``block`` that made it.

    Raises:
        BlockError: A name or pattern fits nothing, a block makes no matchup, or two blocks
            contradict each other.
    """
    compared = {
        _key(entry.get("model_a"), entry.get("model_b"), entry.get("benchmark", DEFAULT_BENCHMARK))
        for entry in declared.values()
        if isinstance(entry, Mapping)
    }
    made: dict[str, dict[str, Any]] = {}
    by_key: dict[tuple[frozenset[Any], Any], str] = {}
    for name, given in blocks.items():
        try:
            block = MatchupBlock.model_validate(given)
        except ValidationError:
            continue
        for model_a, model_b in _pairs(
            f"matchup_blocks.{name}", block, base_models, outside_models
        ):
            for benchmark in dict.fromkeys(block.benchmarks):
                matchup = matchup_name(model_a, model_b, benchmark, outside_models)
                key = _key(model_a, model_b, benchmark)
                if matchup in declared or key in compared:
                    continue
                other = by_key.get(key) or (matchup if matchup in made else None)
                if other is None:
                    by_key[key] = matchup
                    made[matchup] = {
                        "model_a": model_a,
                        "model_b": model_b,
                        "benchmark": benchmark,
                        "parity": block.parity,
                        "block": name,
                    }
                    continue
                first = made[other]
                if _key(first["model_a"], first["model_b"], first["benchmark"]) != key:
                    raise BlockError(
                        f"matchup_blocks.{name} and matchup_blocks.{first['block']} both make a "
                        f"matchup {matchup!r}, of different models; declare one of them under "
                        "`matchups` with another name"
                    )
                if first["parity"] != block.parity:
                    raise BlockError(
                        f"matchup_blocks.{name} and matchup_blocks.{first['block']} both compare "
                        f"{model_a} with {model_b} on {benchmark}, by parity {block.parity} and "
                        f"{first['parity']}; leave it to one of them"
                    )
    return made


def matchup_name(
    model_a: str, model_b: str, benchmark: str, outside_models: Collection[str] = ()
) -> str:
    """Name of a block's matchup, such as ``opencs_vs_random@llama2-7b.koala``.

    What both sides have after ``@`` stands once; so does the experiment's beside an outside model.
    """
    (stem_a, _, tail_a), (stem_b, _, tail_b) = model_a.partition("@"), model_b.partition("@")
    if tail_a and model_b in outside_models:
        stem_b, tail_b = model_b, tail_a
    if tail_a and tail_a == tail_b:
        return f"{stem_a}_vs_{stem_b}@{tail_a}.{benchmark}"
    return f"{model_a}_vs_{model_b}.{benchmark}"


def _key(model_a: Any, model_b: Any, benchmark: Any) -> _Key:
    """What a matchup compares, whichever side is which."""
    return frozenset((str(model_a), str(model_b))), benchmark


def _pairs(
    where: str,
    block: MatchupBlock,
    base_models: Mapping[str, str | None],
    outside_models: Collection[str],
) -> list[tuple[str, str]]:
    """Pairs of a block in the order of its lists; none stands twice, whichever side is which."""

    def named(field: str) -> list[str]:
        return _named(f"{where}.{field}", getattr(block, field), base_models, outside_models)

    def fit(model_a: str, model_b: str) -> bool:
        if model_a in outside_models or model_b in outside_models:
            return not (model_a in outside_models and model_b in outside_models)
        return block.across_base_models or base_models[model_a] == base_models[model_b]

    wanted: Iterable[tuple[str, str]]
    if block.round_robin:
        sides = named("round_robin")
        if len(sides) == 1:
            raise BlockError(
                f"{where}.round_robin: {sides[0]!r} alone has nobody to be compared with; name "
                "two or more"
            )
        # An outside model stands second, as in other matchups.
        sides.sort(key=lambda side: side in outside_models)
        wanted = combinations(sides, 2)
    else:
        experiments, baselines = named("experiments"), named("baselines")
        for side in experiments:
            if side in outside_models:
                raise BlockError(
                    f"{where}.experiments: {side!r} is an outside model; name it among `baselines`"
                )
        wanted = ((side, other) for side in experiments for other in baselines)
    found: dict[frozenset[str], tuple[str, str]] = {}
    for model_a, model_b in wanted:
        if model_a != model_b and fit(model_a, model_b):
            found.setdefault(frozenset((model_a, model_b)), (model_a, model_b))
    met = {side for pair in found.values() for side in pair}
    # A pattern may well take in more than is compared; what is named is meant.
    for field in ("experiments", "baselines", "round_robin"):
        for side in getattr(block, field):
            if not _is_pattern(side) and side not in met:
                raise BlockError(
                    f"{where}.{field}: {side!r} has nobody to be compared with: no other side has "
                    "its base model; name one, or write `across_base_models: true`"
                )
    if not found:
        raise BlockError(
            f"{where} makes no matchup: no two of its sides are different and of one base model; "
            "name others, or write `across_base_models: true`"
        )
    return list(found.values())


def _named(
    where: str,
    names: Iterable[str],
    base_models: Mapping[str, str | None],
    outside_models: Collection[str],
) -> list[str]:
    """What names and patterns stand for, each once, in their order."""
    found: dict[str, None] = {}
    for name in names:
        fits = (
            [each for each in base_models if fnmatchcase(each, name)]
            if _is_pattern(name)
            else [name] * (name in base_models or name in outside_models)
        )
        if not fits:
            known = ", ".join([*base_models, *outside_models])
            problem = "fits no experiment" if _is_pattern(name) else "is not there"
            raise BlockError(f"{where}: {name!r} {problem}; known: {known}")
        found.update(dict.fromkeys(fits))
    return list(found)


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name
