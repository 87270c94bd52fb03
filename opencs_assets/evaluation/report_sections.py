"""What is in the report, in its order: which columns of which marts, and the queries for them.

A new table of the report is one entry here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.evaluation import plots

_JUDGE = "opencs materialize single_verdicts --all, then opencs materialize group:evaluation"
_COMPARE = "opencs materialize pairwise_verdicts --all, then opencs materialize group:evaluation"
_IMPORT = "opencs import-verdicts PATH, then opencs materialize group:evaluation"


@dataclass(frozen=True)
class ReportColumn:
    """A column on the page.

    Attributes:
        names: Columns of the query; several are shown as one range.
        heading: Its heading.
        look: How it is shown.
        form: Format of its numbers.
        if_varied: Shown only where its values are not all the same.
    """

    names: tuple[str, ...]
    heading: str
    look: Literal["text", "number", "badge"] = "text"
    form: str = ""
    if_varied: bool = False

    @property
    def name(self) -> str:
        """The first column of the query."""
        return self.names[0]


@dataclass(frozen=True)
class TableSpec:
    """A table on the page.

    Attributes:
        reads: The mart that it reads.
        columns: Its columns.
        key: Columns that tell a row from the others.
        order: Columns that the rows are ordered by.
        empty: What to say, and to do, where there are no rows.
        title: Heading; empty for the section's.
        relation: What is selected from, where it is not the mart itself.
        where: Condition on the rows.
        folded: Closed until somebody opens it.
        note: The mart has the column ``note``.
    """

    reads: str
    columns: tuple[ReportColumn, ...]
    key: tuple[str, ...]
    order: str
    empty: str
    title: str = ""
    relation: str = ""
    where: str = ""
    folded: bool = False
    note: bool = False

    @property
    def needs(self) -> set[str]:
        """Columns that the mart must have."""
        if self.relation:
            return set()
        return {*self._names(), *self.key}

    def sql(self) -> str:
        """The query of the whole table."""
        return " ".join(
            filter(
                None,
                (
                    f"select {', '.join(self._selected())}",
                    f"from {self._from()}",
                    f"where {self.where}" if self.where else "",
                    f"order by {self.order}",
                ),
            )
        )

    def row_sql(self, row: Mapping[str, Any]) -> str:
        """The query of one row.

        Args:
            row: Its values.
        """
        held = [self.where] if self.where else []
        held += [
            f"{name} is null" if row[name] is None else f"{name} = {literal(row[name])}"
            for name in self.key
        ]
        return " ".join(
            (
                f"select {', '.join(self._names())}",
                f"from {self._from()}",
                f"where {' and '.join(held)}",
            )
        )

    def row_title(self, row: Mapping[str, Any]) -> str:
        """What a row is about.

        Args:
            row: Its values.
        """
        said = [
            str(row[column.name])
            for column in self.columns
            if column.look == "text" and row[column.name] is not None
        ]
        return ", ".join(said[:4])

    def _from(self) -> str:
        return self.relation or self.reads

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for column in self.columns for name in column.names))

    def _selected(self) -> list[str]:
        return list(dict.fromkeys([*self._names(), *self.key, *(["note"] if self.note else [])]))


@dataclass(frozen=True)
class Shown:
    """A section of the page.

    Attributes:
        anchor: Its id.
        title: Its heading.
        says: One sentence of what it shows.
        tables: Its tables; the picture is of the first one's mart.
        picture: Draws the mart's rows.
    """

    anchor: str
    title: str
    says: str
    tables: tuple[TableSpec, ...]
    picture: Callable[[pl.DataFrame], Figure] | None = None


@dataclass(frozen=True)
class Fact:
    """A number of the summary.

    Attributes:
        says: What it counts.
        sql: Gives it as ``value``.
        form: Its format.
        unknown: What to say where it is null.
    """

    says: str
    sql: str
    form: str = ",d"
    unknown: str = ""


def literal(value: Any) -> str:
    """A value as SQL has it.

    Args:
        value: Text, a number or a truth value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def _text(name: str, heading: str = "", *, if_varied: bool = False) -> ReportColumn:
    return ReportColumn((name,), heading or name.replace("_", " "), if_varied=if_varied)


def _number(name: str, heading: str = "", form: str = ",d") -> ReportColumn:
    return ReportColumn((name,), heading or name.replace("_", " "), "number", form)


def _range(heading: str, form: str, low: str = "ci_low", high: str = "ci_high") -> ReportColumn:
    return ReportColumn((low, high), heading, "number", form)


_BADGE = ReportColumn(("badge",), "badge", "badge")
_SAME_FOR_MOST = tuple(
    _text(name, if_varied=True)
    for name in ("source", "dataset", "protocol", "reading", "prompt_version", "sampling")
)
_JUDGED = (_number("judged"), _number("expected"), _number("unparsable"))
_UNCHECKED = _text("unchecked", "not checked", if_varied=True)
_SIDES = (_text("model_a", "model a"), _text("model_b", "model b"))
_WIN_RATES = (
    *_SIDES,
    _text("benchmark"),
    _text("judge"),
    *_SAME_FOR_MOST,
    _number("win"),
    _number("tie"),
    _number("lose"),
    _number("adjusted_win_pct", "adjusted win, %", ".1f"),
    _range("95 % interval", ".1f"),
    _number("win_pct", "win %", ".1f"),
    _number("tie_pct", "tie %", ".1f"),
    _number("lose_pct", "lose %", ".1f"),
    _number("orders_disagree_pct", "orders disagree, %", ".1f"),
    *_JUDGED,
    _UNCHECKED,
)
_POSITION = (
    _text("judge"),
    _text("benchmark"),
    *(_text(name, if_varied=True) for name in ("source", "dataset", "protocol", "prompt_version")),
    _number("pairs"),
    _number("orders_disagree", "orders disagree"),
    _number("orders_disagree_pct", "%", ".1f"),
    _number("full_flips", "full flips"),
    _number("full_flips_pct", "%", ".1f"),
    _number("toward_first", "toward first"),
    _number("toward_second", "toward second"),
    _number("toward_first_pct", "toward first, %", ".1f"),
)
_POSITION_KEY = (
    "source", "dataset", "benchmark", "judge", "protocol", "prompt_version", "category",
)  # fmt: skip
_UNFIT = (
    _text("benchmark"),
    _text("judge"),
    *_SAME_FOR_MOST,
    _BADGE,
    _text("reason"),
    *_JUDGED,
)

SECTIONS: Sequence[Shown] = (
    Shown(
        "scores",
        "MT-Bench scores",
        "Each answer judged alone, 1 to 10: the mean over all judged turns. Intervals come from "
        "drawing questions anew, the same ones for every model.",
        (
            TableSpec(
                "mt_bench_scores",
                (
                    _text("model"),
                    _text("benchmark"),
                    _text("judge"),
                    *_SAME_FOR_MOST,
                    _number("turn_1", "turn 1", ".4f"),
                    _number("turn_2", "turn 2", ".4f"),
                    _number("score", "score", ".4f"),
                    _range("95 % interval", ".2f"),
                    *_JUDGED,
                    _UNCHECKED,
                ),
                ("result_id",),
                "benchmark, judge, score desc, model, result_id",
                f"No result of single judgments is published. Judge answers: {_JUDGE}",
                note=True,
            ),
        ),
        plots.score_table,
    ),
    Shown(
        "categories",
        "MT-Bench by category",
        "The same scores by the questions' category.",
        (
            TableSpec(
                "mt_bench_by_category",
                (
                    _text("model"),
                    _text("category"),
                    _text("judge"),
                    *_SAME_FOR_MOST,
                    _number("turn_1", "turn 1", ".2f"),
                    _number("turn_2", "turn 2", ".2f"),
                    _number("score", "score", ".2f"),
                    *_JUDGED,
                ),
                ("result_id", "category"),
                "judge, model, category, result_id",
                f"No result of single judgments is published. Judge answers: {_JUDGE}",
                folded=True,
                title="All numbers by category",
            ),
        ),
        plots.category_radar,
    ),
    Shown(
        "wins",
        "Win rates",
        "Two models' answers compared in both orders, merged by the result's default rule; model a "
        "wins, ties or loses; a tie is half a win in the adjusted rate.",
        (
            TableSpec(
                "win_rates",
                (*_WIN_RATES, _text("rule", if_varied=True)),
                ("result_id", "rule"),
                "benchmark, model_a, model_b, judge, result_id",
                f"No comparison is published. Compare models: {_COMPARE}",
                where="is_default_rule",
                note=True,
            ),
            TableSpec(
                "win_rates",
                (_text("rule"), *_WIN_RATES),
                ("result_id", "rule"),
                "benchmark, model_a, model_b, judge, result_id, rule",
                "No comparison is published by another rule.",
                title="By the other rules of merging",
                where="not is_default_rule",
                folded=True,
            ),
            TableSpec(
                "win_rates",
                (
                    *_SIDES,
                    _text("benchmark"),
                    *_SAME_FOR_MOST,
                    _text("parity"),
                    _number("epochs_a", "epochs a", ",.4g"),
                    _number("epochs_b", "epochs b", ",.4g"),
                    _number("steps_a", "steps a"),
                    _number("steps_b", "steps b"),
                    _number("tokens_a", "tokens a"),
                    _number("tokens_b", "tokens b"),
                    _text("template_a", "template a"),
                    _text("template_b", "template b"),
                ),
                ("result_id", "rule"),
                "benchmark, model_a, model_b, judge, result_id",
                "No comparison is published.",
                title="What both sides were trained with",
                where="is_default_rule",
                folded=True,
            ),
        ),
        plots.win_tie_lose,
    ),
    Shown(
        "leaderboard",
        "Leaderboard",
        "Bradley-Terry ratings over all published comparisons; 1000 is the mean, 400 points are "
        "odds of 10 to 1.",
        (
            TableSpec(
                "leaderboard",
                (
                    _number("rank"),
                    _text("model"),
                    _text("benchmark"),
                    _text("judge"),
                    *(
                        _text(name, if_varied=True)
                        for name in (
                            "source",
                            "dataset",
                            "protocol",
                            "reading",
                            "prompt_version",
                            "sampling",
                        )
                    ),
                    _number("rating", "rating", ",.1f"),
                    _range("95 % interval", ",.1f"),
                    _number("matchups"),
                    _number("questions"),
                ),
                (
                    "source",
                    "dataset",
                    "benchmark",
                    "judge",
                    "protocol",
                    "reading",
                    "prompt_version",
                    "sampling",
                    "model",
                ),
                "benchmark, dataset, judge, prompt_version, sampling, rank, model",
                f"No comparison is published. Compare models: {_COMPARE}",
            ),
        ),
        plots.leaderboard,
    ),
    Shown(
        "position",
        "Position bias",
        "What changes when the two answers change places. A judge without position bias has as "
        "many disagreements toward the first as toward the second.",
        (
            TableSpec(
                "position_bias",
                _POSITION,
                _POSITION_KEY,
                "benchmark, judge, prompt_version, source, dataset, protocol",
                f"No pair was judged in both orders. Compare models: {_COMPARE}",
                where="category = 'all'",
            ),
            TableSpec(
                "position_bias",
                (_text("category"), *_POSITION),
                _POSITION_KEY,
                "benchmark, judge, category, prompt_version, source, dataset, protocol",
                "No pair was judged in both orders.",
                title="By category",
                where="category <> 'all'",
                folded=True,
            ),
        ),
        plots.position_bias,
    ),
    Shown(
        "length",
        "Length bias",
        "How often the longer answer wins, and the win rate with length controlled for. "
        "lc_alpaca_eval2 is AlpacaEval 2's formula; lc_no_difficulty has no instruction "
        "difficulties, and its number is not comparable with AlpacaEval's.",
        (
            TableSpec(
                "length_bias",
                (
                    *_SIDES,
                    _text("benchmark"),
                    _text("judge"),
                    _number("questions"),
                    _number("decided"),
                    _number("longer_wins", "longer wins"),
                    _number("longer_win_pct", "%", ".1f"),
                    _number("win_pct", "adjusted win, %", ".1f"),
                    _number("lc_win_pct", "length-controlled, %", ".1f"),
                    _text("lc_method", "by"),
                    _number("lc_questions", "questions of it"),
                ),
                ("result_id",),
                "benchmark, model_a, model_b, judge, result_id",
                f"No comparison with known answers. Compare models: {_COMPARE}",
            ),
        ),
    ),
    Shown(
        "agreement",
        "Judge agreement",
        "How often two judges of the same pair agree, people among them. Without ties, votes where "
        "either said tie are left out; kappa corrects for chance.",
        (
            TableSpec(
                "judge_agreement",
                (
                    _text("judge_a", "judge a"),
                    _text("judge_b", "judge b"),
                    _text("benchmark"),
                    _number("turn", "turn (0: both)"),
                    _text("with_ties", "with ties"),
                    _number("votes"),
                    _number("agree"),
                    _number("agree_pct", "agree, %", ".1f"),
                    _number("kappa", "kappa", ".3f"),
                ),
                ("benchmark", "judge_a", "judge_b", "turn", "with_ties"),
                "benchmark, judge_a, judge_b, turn, with_ties",
                f"No two judges judged the same pairs. Import votes: {_IMPORT}",
            ),
        ),
    ),
    Shown(
        "unpublished",
        "Not published, and why",
        "Results that a rule of the publication gate keeps out of the tables above.",
        (
            TableSpec(
                "mt_bench_scores_all",
                (_text("model"), *_UNFIT),
                ("result_id",),
                "benchmark, model, judge, result_id",
                "Every result of single judgments is published.",
                title="Single judgments",
                where="badge <> 'ok'",
            ),
            TableSpec(
                "win_rates_all",
                (*_SIDES, *_UNFIT, _number("stopped")),
                ("result_id", "rule"),
                "benchmark, model_a, model_b, judge, result_id",
                "Every comparison is published.",
                title="Comparisons",
                where="badge <> 'ok' and is_default_rule",
            ),
            TableSpec(
                "publication_gate",
                (
                    _text("subject"),
                    _text("benchmark"),
                    _text("judge"),
                    _text("rule"),
                    _text("reason"),
                ),
                ("result_id", "rule"),
                "benchmark, subject, judge, rule, result_id",
                "No rule failed.",
                title="Rules that failed",
                where="not passed",
                folded=True,
            ),
        ),
    ),
    Shown(
        "rejected",
        "Rejected imports",
        "Rows of imported files that fit no judgment.",
        (
            TableSpec(
                "rejected_imports",
                (
                    _text("file_name", "file"),
                    _text("reason"),
                    _number("rejected", "rows"),
                    _text("example"),
                ),
                ("file_name", "reason"),
                "file_name, reason",
                "No row of an imported file was rejected.",
                relation="(select file_name, reason, count(*) as rejected, min(detail) as example "
                "from rejected_imports group by file_name, reason)",
            ),
        ),
    ),
    Shown(
        "usage",
        "Usage and cost",
        "Every call of a language model whose reply is kept. Lost calls were in flight when their "
        "process was killed; they stand apart, at the most that they can have cost. A sum with an "
        "unknown price in it is unknown.",
        (
            TableSpec(
                "llm_usage",
                (
                    _text("stage"),
                    _text("role"),
                    _text("model"),
                    _text("dataset"),
                    _number("calls"),
                    _number("prompt_tokens", "prompt tokens"),
                    _number("completion_tokens", "reply tokens"),
                    _number("unusable"),
                    _number("cost_usd", "US dollars", ",.4f"),
                    _number("seconds", "seconds", ",.1f"),
                    _number("lost_calls", "lost calls"),
                    _number("lost_usd", "US dollars for lost calls", ",.4f"),
                ),
                ("stage", "role", "model", "dataset"),
                "stage, role, model, dataset",
                "No language model has been asked.",
                note=True,
            ),
        ),
    ),
)

FACTS: Sequence[Fact] = (
    Fact("published results of single judgments", "select count(*) as value from mt_bench_scores"),
    Fact(
        "published comparisons",
        "select count(*) as value from win_rates where is_default_rule",
    ),
    Fact(
        "results that are incomplete",
        "select count(*) as value from (select result_id, badge from mt_bench_scores_all union "
        "select result_id, badge from win_rates_all) where badge = 'incomplete'",
    ),
    Fact(
        "results that are unfair",
        "select count(*) as value from (select result_id, badge from mt_bench_scores_all union "
        "select result_id, badge from win_rates_all) where badge = 'unfair'",
    ),
    Fact("verdicts that can be traced", "select count(*) as value from verdict_trace"),
    Fact("conflicting imported verdicts", "select count(*) as value from conflicting_verdicts"),
    Fact("rejected rows of imports", "select count(*) as value from rejected_imports"),
    Fact(
        "calls of language models",
        "select coalesce(sum(calls), 0)::bigint as value from llm_usage",
    ),
    Fact(
        "US dollars for them",
        "select case when count(cost_usd) = count(*) then coalesce(sum(cost_usd), 0) end as value "
        "from llm_usage",
        ",.2f",
        "unknown: a price is not known",
    ),
)
