"""Blocks of matchups, which say by names and patterns who is compared with whom.

A block names either experiments and the baselines that each of them is compared with, or a list of
models that are all compared with each other. Each pair is compared on all benchmarks of the block.
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
    """A block is not valid; the message names block, field and reason."""


class MatchupBlock(BaseModel):
    """A block of matchups, which are named ``a_vs_b@base_model.benchmark``.

    A name may be a pattern of experiments with ``*`` and ``?``, such as ``opencs@*`` (in YAML
    within quotation marks where it begins with a star).

    Attributes:
        experiments: Experiments that are compared with each of the baselines.
        baselines: Experiments and outside models; without ``across_base_models``, an experiment is
            compared only with those of its base model. It is never compared with itself.
        round_robin: Experiments and outside models that are all compared with each other, in place
            of ``experiments`` and ``baselines``.
        benchmarks: Benchmarks that each pair is compared on.
        parity: Budget in which both sides of each matchup are equal, as in a matchup.
        across_base_models: Whether experiments of different base models are compared as well.
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

    A declared matchup replaces one of a block that has its name, or compares the same two models on
    the same benchmark. Two blocks may make the same matchup if both give it the same parity.

    Args:
        blocks: Blocks by name, as read from YAML; one that is not valid makes no matchup here.
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
    for name, fields in blocks.items():
        try:
            block = MatchupBlock.model_validate(fields)
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

    A base model after ``@`` that both sides have stands once, as does the experiment's where the
    other side is an outside model.
    """
    (stem_a, _, tail_a), (stem_b, _, tail_b) = model_a.partition("@"), model_b.partition("@")
    if tail_a and model_b in outside_models:
        stem_b, tail_b = model_b, tail_a
    if tail_a and tail_a == tail_b:
        return f"{stem_a}_vs_{stem_b}@{tail_a}.{benchmark}"
    return f"{model_a}_vs_{model_b}.{benchmark}"


def _key(model_a: Any, model_b: Any, benchmark: Any) -> _Key:
    """The models and the benchmark of a matchup, equal for both orders of its sides."""
    return frozenset((str(model_a), str(model_b))), benchmark


def _pairs(
    where: str,
    block: MatchupBlock,
    base_models: Mapping[str, str | None],
    outside_models: Collection[str],
) -> list[tuple[str, str]]:
    """Pairs of a block in the order of its lists; a pair in the other order is the same pair."""

    def named(field: str) -> list[str]:
        return _named(f"{where}.{field}", getattr(block, field), base_models, outside_models)

    def fit(model_a: str, model_b: str) -> bool:
        if model_a in outside_models or model_b in outside_models:
            return not (model_a in outside_models and model_b in outside_models)
        return block.across_base_models or base_models[model_a] == base_models[model_b]

    candidates: Iterable[tuple[str, str]]
    if block.round_robin:
        sides = named("round_robin")
        if len(sides) == 1:
            raise BlockError(
                f"{where}.round_robin: {sides[0]!r} alone has nobody to be compared with; name "
                "two or more"
            )
        # An outside model stands second, as in other matchups.
        sides.sort(key=lambda side: side in outside_models)
        candidates = combinations(sides, 2)
    else:
        experiments, baselines = named("experiments"), named("baselines")
        for side in experiments:
            if side in outside_models:
                raise BlockError(
                    f"{where}.experiments: {side!r} is an outside model; name it among `baselines`"
                )
        candidates = ((side, other) for side in experiments for other in baselines)
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for model_a, model_b in candidates:
        if model_a != model_b and fit(model_a, model_b):
            pairs.setdefault(frozenset((model_a, model_b)), (model_a, model_b))
    met = {side for pair in pairs.values() for side in pair}
    # A pattern may fit more experiments than are compared, but a name must be compared.
    for field in ("experiments", "baselines", "round_robin"):
        for side in getattr(block, field):
            if not _is_pattern(side) and side not in met:
                raise BlockError(
                    f"{where}.{field}: {side!r} has nobody to be compared with: no other side has "
                    "its base model; name one, or write `across_base_models: true`"
                )
    if not pairs:
        raise BlockError(
            f"{where} makes no matchup: no two of its sides are different and of one base model; "
            "name others, or write `across_base_models: true`"
        )
    return list(pairs.values())


def _named(
    where: str,
    names: Iterable[str],
    base_models: Mapping[str, str | None],
    outside_models: Collection[str],
) -> list[str]:
    """The models that names and patterns stand for, without repeats, in their order."""
    models: list[str] = []
    for name in names:
        fits = (
            [model for model in base_models if fnmatchcase(model, name)]
            if _is_pattern(name)
            else [name] * (name in base_models or name in outside_models)
        )
        if not fits:
            known = ", ".join([*base_models, *outside_models])
            problem = "fits no experiment" if _is_pattern(name) else "is not there"
            raise BlockError(f"{where}: {name!r} {problem}; known: {known}")
        models += fits
    return list(dict.fromkeys(models))


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name
