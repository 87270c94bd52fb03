"""A lake of results without a defect, and of results that each have one, a dataset or two each."""

from pathlib import Path

import polars as pl

from opencs_assets.tables.answers import UNANSWERED
from opencs_assets.tables.catalog import TABLES
from opencs_assets.tables.lake import Lake
from tests.integration.warehouse.conftest import (
    LOST,
    add,
    imported,
    pair_rows,
    questions,
    replies,
    table,
    write_models,
)

NAMES = [f"q{place:02}" for place in range(40)]
MATCHUP = "one_vs_two@base"
UNITS = {
    MATCHUP: "epochs",
    "by_tokens@base": "tokens",
    "by_steps@base": "steps",
    "own_budgets@base": "declared",
    "outside_first@base": "epochs",
}
QUESTION, SHOWN_A, TURN = pl.col("question_id"), pl.col("shown_first") == "a", pl.col("turn")
UNREAD = {"winner": None, "score_a": None, "score_b": None, "score": None}


def pairs(**constants) -> pl.DataFrame:
    """Both orders of every question."""
    cycle = [("a", "a"), ("a", "b"), ("b", "b"), ("tie", "a")]
    winners = {name: cycle[place % 4] for place, name in enumerate(NAMES)}
    return pair_rows(winners, benchmark="bench", **constants)


def singles(**constants) -> pl.DataFrame:
    """Scores of both turns of every question."""
    rows = [
        {"question_id": name, "turn": turn, "score": 8.0 - turn, "status": "ok"}
        for name in NAMES
        for turn in (1, 2)
    ]
    plain = {"benchmark": "bench", "judge": "gpt", "protocol": "single"}
    return table("single_verdicts", rows, **{**plain, **constants})


def unread(frame: pl.DataFrame, statuses: list[str]) -> pl.DataFrame:
    """The first rows have these statuses, and no verdict."""
    place = pl.int_range(pl.len())
    return frame.with_columns(
        pl.when(place < len(statuses)).then(None).otherwise(name).alias(name)
        for name in UNREAD
        if name in frame.columns
    ).with_columns(status=pl.Series([*statuses, *["ok"] * (frame.height - len(statuses))]))


def only(names: list[str]) -> pl.Expr:
    """Whether a row is of one of these questions."""
    return QUESTION.is_in(names)


class Results:
    """Writes whole results, and changes what is wrong with them."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        asked = questions("bench", NAMES)
        self.asked = asked.with_columns(category=pl.Series(["math", "coding"] * 20))
        add(lake, "benchmark_questions", self.asked)

    def whole(self, dataset: str, models: dict[str, dict] | None = None) -> None:
        write_models(self.lake, dataset, self.asked, models)
        self.pair(dataset, pairs())
        self.single(dataset, singles())

    def pair(self, dataset: str, frame: pl.DataFrame, matchup: str = MATCHUP) -> None:
        self.lake.write("pairwise_verdicts", frame, {"dataset": dataset, "matchup": matchup})

    def single(self, dataset: str, frame: pl.DataFrame) -> None:
        self.lake.write("single_verdicts", frame, {"dataset": dataset, "experiment": "one"})

    def answers(self, dataset: str, model: str) -> pl.DataFrame:
        of_model = {"dataset": dataset, "experiment": model}
        return self.lake.read("model_answers", of_model).drop(of_model)

    def answer(self, dataset: str, model: str, frame: pl.DataFrame) -> None:
        self.lake.write("model_answers", frame, {"dataset": dataset, "experiment": model})

    def chosen(self, dataset: str, selector: str, samples: list[str]) -> None:
        rows = [{"sample_id": sample, "rank": rank} for rank, sample in enumerate(samples)]
        subset = table("selected_subset", rows)
        self.lake.write("selected_subset", subset, {"dataset": dataset, "selector": selector})

    def matched(self, dataset: str, matches: list[tuple[str, str, str]]) -> None:
        names = ("sample_id", "benchmark", "question_id")
        rows = [dict(zip(names, match, strict=True), match="equal") for match in matches]
        frame = table("contaminated_samples", rows)
        self.lake.write("contaminated_samples", frame, {"dataset": dataset})


def write(lake: Lake) -> None:
    """Write all of it."""
    make = Results(lake)
    rows = [
        {"matchup": name, "model_a": "one", "model_b": "two", "parity": unit}
        for name, unit in UNITS.items()
    ]
    add(lake, "declared_matchups", table("declared_matchups", rows))
    declared = [
        {"model": "gpt-y", "is_outside": True},
        # Where `two` has a checkpoint, the selector of the checkpoint counts.
        {"model": "two", "selector": "picked"},
    ]
    add(lake, "declared_models", table("declared_models", declared))
    make.whole("good")
    judgments(make)
    others_judgments(make)
    answers(make)
    budgets(make)
    contaminated(make)
    from_files(lake)
    traced(make)


def judgments(make: Results) -> None:
    """What is wrong with a result's own judgments."""
    for dataset in (
        "half",
        "limit",
        "unread",
        "one_order",
        "other_order",
        "sides",
        "mix",
        "nothing",
    ):
        make.whole(dataset)
    make.single("half", singles().filter(TURN == 1))
    make.pair("half", pairs().head(40))
    exactly = ["truncated", "refused", "unparsable", "unparsable"]
    for dataset, statuses in {"limit": exactly, "unread": [*exactly, "truncated"]}.items():
        make.pair(dataset, unread(pairs(), statuses))
        make.single(dataset, unread(singles(), statuses))
    make.pair("one_order", pairs().filter(~(only(NAMES[:5]) & SHOWN_A)))
    make.pair("other_order", pairs().filter(~(only(NAMES[:1]) & ~SHOWN_A)))
    # Both categories lack five calls, each of the other order.
    make.pair(
        "sides",
        pairs().filter(~(only(NAMES[0:10:2]) & SHOWN_A | only(NAMES[1:11:2]) & ~SHOWN_A)),
    )
    make.single("mix", singles(with_reference=True).filter(~only(NAMES[0:20:2])))
    make.pair("nothing", unread(pairs(), ["too_long"] * 80))
    make.single("nothing", unread(singles(), ["too_long"] * 80))


def others_judgments(make: Results) -> None:
    """What a result lacks, another one of the same answers has."""
    for dataset in ("judge", "ways"):
        make.whole(dataset)
    other = pl.when(only(NAMES[30:])).then(pl.lit("gpt-4o")).otherwise("judge")
    make.pair("judge", pairs().with_columns(judge=other))
    newer = pl.when(TURN == 2).then(pl.lit("v2")).otherwise("prompt_version")
    make.single("judge", singles().with_columns(prompt_version=newer))
    frames = [
        pairs().filter(only(NAMES[:10])),
        pairs(sampling="s2").filter(only(NAMES[10:20])),
        pairs(reading="logprobs").filter(only(NAMES[20:])),
    ]
    make.pair("ways", pl.concat(frames))


def answers(make: Results) -> None:
    """What is wrong with the answers that were judged."""
    for dataset in ("fewer", "silent", "stale", "outsiders"):
        make.whole(dataset)
    asked = make.answers("fewer", "two")
    gone = asked.tail(10).with_columns(question_id="gone" + QUESTION)
    make.answer("fewer", "two", pl.concat([asked.head(70), gone]))
    last = pl.int_range(pl.len()) == 79
    reason = pl.when(last).then(pl.lit(UNANSWERED[0])).otherwise("finish_reason")
    make.answer("fewer", "one", make.answers("fewer", "one").with_columns(finish_reason=reason))
    make.answer("silent", "two", asked.clear())
    older = pl.when(only(NAMES[:3])).then(pl.lit("older")).otherwise("checkpoint")
    make.answer("stale", "one", make.answers("stale", "one").with_columns(checkpoint=older))
    make.pair("outsiders", pairs(model_a="gpt-y"), "outside_first@base")
    outside = [
        {"benchmark": "bench", "question_id": name, "turn": turn, "answer": "so", "detail": None}
        for name in NAMES
        for turn in (1, 2)
    ]
    made = table("outside_answers", outside, finish_reason="stop", model="gpt-y")
    make.lake.write("outside_answers", made, {"outside_model": "gpt-y"})
    make.whole("templates", {"one": {}, "two": {"template_hash": "other"}})
    make.whole("bases", {"one": {}, "two": {"template_hash": "other", "base_model": "bigger"}})


def budgets(make: Results) -> None:
    """Trainings that are apart in one unit alone, exactly at the bound, and past it."""
    trained = {
        "epochs_apart": ((15.0, 60, 1000), (3.0, 60, 1000)),
        "tokens_limit": ((15.0, 60, 1000), (15.0, 61, 990)),
        "tokens_apart": ((15.0, 60, 989), (15.0, 60, 1000)),
    }
    units = ("epochs", "steps", "tokens")
    for dataset, amounts in trained.items():
        of_sides = (dict(zip(units, amount, strict=True)) for amount in amounts)
        make.whole(dataset, dict(zip(("one", "two"), of_sides, strict=True)))
        for matchup in ("by_tokens@base", "by_steps@base", "own_budgets@base", "gone@base"):
            make.pair(dataset, pairs(), matchup)


def contaminated(make: Results) -> None:
    """Subsets with samples that ask what the benchmark asks."""
    for dataset in ("leak", "unknown", "untrained"):
        make.whole(dataset)
        for selector in ("one", "two"):
            make.chosen(dataset, selector, [f"{selector}{place}" for place in range(3)])
    make.matched(
        "leak",
        [
            ("two0", "bench", "q01"),
            ("two1", "bench", "q01"),
            ("two1", "bench", "q02"),
            ("free", "bench", "q03"),
            ("one0", "elsewhere", "q01"),
        ],
    )
    Path(make.lake.path(TABLES["contaminated_samples"], {"dataset": "unknown"})).unlink()
    # Of a model without a checkpoint, its declared selector says what it would be trained on.
    make.chosen("untrained", "picked", ["bad"])
    make.matched("untrained", [("bad", "bench", "q01"), ("bad", "bench", "q02")])
    of_two = {"dataset": "untrained", "experiment": "two"}
    Path(make.lake.path(TABLES["checkpoint"], of_two)).unlink()


def traced(make: Results) -> None:
    """A result whose verdicts are traced to replies, answers, subset and tags."""
    make.whole("traced", {"one": {"subset_hash": "of one", "samples": 2}, "two": {}})
    make.pair("traced", pairs(reply_id="judged"))
    make.chosen("traced", "one", ["s0", "s1"])
    tags = [{"sample_id": "s0", "tags": ["math"]}, {"sample_id": "s1", "tags": ["math", "sums"]}]
    make.lake.write("normalized_tags", table("normalized_tags", tags), {"dataset": "traced"})
    tagged = {"stage": "open_tags", "model": "mini", "prompt_version": "tags-1", "role": "tagger"}
    made = [
        {"reply_id": "judged", "stage": "pairwise_verdicts", "model": "gpt", "cost_usd": 0.02},
        {"reply_id": "t0", **tagged, "cost_usd": 0.001},
        {"reply_id": "t1", **tagged, "cost_usd": 0.002},
        # Nothing was chosen or judged with a call that has no reply.
        {**LOST, "reply_id": "lost:t0:one", **tagged, "cost_usd": None},
        {**LOST, "reply_id": "lost:judged:one", "stage": "pairwise_verdicts", "cost_usd": 0.5},
    ]
    add(make.lake, "llm_replies", replies([{"dataset": "traced", **row} for row in made]))


def from_files(lake: Lake) -> None:
    """Imported verdicts of `m1` to `m5`, each of whose matchups a file says other things of."""
    whole = [
        {"question_id": name, "turn": turn, "winner": "a", "orders_disagree": turn == 1}
        for name in NAMES
        for turn in (1, 2)
    ]
    unsaid = [{**row, "orders_disagree": None} for row in whole]
    conflicts = [
        {
            **row,
            "state": "conflict" if place < 2 else "used",
            "file_name": f"{place % 2}.jsonl",
        }
        for place, row in enumerate(whole)
    ]
    by_order = [{**row, "shown_first": side} for row in unsaid[:-2] for side in "ab"]
    by_people = [{**row, "state": "conflict" if row["turn"] == 1 else "used"} for row in unsaid]
    of_pair = {"kind": "pair", "protocol": "choice", "benchmark": "bench", "judge": "gpt"}
    merged = {**of_pair, "shown_first": "merged"}
    frames = [
        imported(whole, **merged, model_a="m1", model_b="m2", file="f1"),
        # Of the judgments that another judge made too, this one lacks 30.
        imported(
            whole[:50], **{**merged, "judge": "claude"}, model_a="m1", model_b="m2", file="f8"
        ),
        # Of 78 outcomes the file does not say whether the orders agreed.
        imported(whole[:2] + unsaid[2:], **merged, model_a="m1", model_b="m3", file="f2"),
        imported(conflicts, **merged, model_a="m2", model_b="m3", file="f3"),
        # They met none of the others, so their ranks are their own.
        imported(whole, **merged, model_a="n1", model_b="n2", file="f9"),
        # Of the last question the file holds one outcome of both orders.
        imported(
            [*by_order, *({**row, "shown_first": "merged"} for row in whole[-2:])],
            **of_pair, model_a="m1", model_b="m4", file="f4",
        ),
        imported(unsaid, **of_pair, model_a="m1", model_b="m5", file="f5"),
        # People are no result, and what they say does not conflict with a judge's.
        imported(
            by_people,
            **{**of_pair, "judge": "expert"}, is_human=True, model_a="m1", model_b="m2", file="f6",
        ),
        imported(
            [
                {**row, "winner": None, "score_a": 8.0, "state": state, "file_name": "single.jsonl"}
                for row, state in zip(unsaid, ["conflict"] + ["used"] * 79, strict=True)
            ],
            kind="single", protocol="single", benchmark="bench", judge="gpt", model_a="m1",
            model_b=None, file="f7",
        ),
    ]  # fmt: skip
    add(lake, "imported_verdicts", pl.concat(frames))
    answered = [
        {"model": model, "question_id": name, "turn": turn, "answer": "so"}
        for model, count in (("m1", 40), ("m2", 39), ("m4", 40))
        for name in NAMES[:count]
        for turn in (1, 2)
    ]
    add(lake, "imported_answers", table("imported_answers", answered, benchmark="bench"))
