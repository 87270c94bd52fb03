"""What is in the report, in its order: which columns of which marts, and the queries for them.

A new table of the report is one entry here; the headings and formats of columns are in the dbt
project (``mart_columns``).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from opencs_assets.evaluation import plots
from opencs_assets.evaluation.mart_columns import ReportColumn, columns_of
from resources.dbt_project import mart_keys

_NOT_COMPARED = "No comparison is published."
_JUDGE = "opencs materialize single_verdicts --all, then opencs materialize group:evaluation"
_COMPARE = "opencs materialize pairwise_verdicts --all, then opencs materialize group:evaluation"
_IMPORT = "opencs import-verdicts PATH, then opencs materialize group:evaluation"
_NOT_JUDGED = f"No result of single judgments is published. Judge answers: {_JUDGE}"
# Most results have these in common.
_SETUP = ("source", "dataset", "protocol", "reading", "prompt_version", "sampling")


@dataclass(frozen=True)
class TableSpec:
    """A table on the page.

    Attributes:
        reads: The mart that it reads.
        columns: Its columns: names of the mart's, two that are shown as one range, or a column
            that the relation adds.
        order: Columns that the rows are ordered by.
        empty: What to say, and to do, where there are no rows.
        if_varied: Columns that are shown only where their values are not all the same.
        title: Heading; empty for the section's.
        relation: What is selected from, where it is not the mart itself.
        relation_key: Columns that tell its rows apart.
        where: Condition on the rows.
        folded: Closed until somebody opens it.
        note: The mart has the column ``note``.
    """

    reads: str
    columns: tuple[str | tuple[str, str] | ReportColumn, ...]
    order: str
    empty: str
    if_varied: Collection[str] = (*_SETUP, "unchecked")
    title: str = ""
    relation: str = ""
    relation_key: tuple[str, ...] = ()
    where: str = ""
    folded: bool = False
    note: bool = False

    @cached_property
    def shown(self) -> Sequence[ReportColumn]:
        """Its columns as the dbt project declares them; a range is shown as its first one."""
        declared = columns_of(self.reads)
        return [
            declared[column]
            if isinstance(column, str)
            else replace(declared[column[0]], names=column)
            if isinstance(column, tuple)
            else column
            for column in self.columns
        ]

    @property
    def key(self) -> Sequence[str]:
        """Columns that tell a row from the others."""
        return self.relation_key or mart_keys()[self.reads]

    @property
    def needs(self) -> set[str]:
        """Columns that the mart must have."""
        if self.relation:
            return set()
        return {*self._names(), *self.key}

    def sql(self) -> str:
        """The query of the whole table."""
        where = f" where {self.where}" if self.where else ""
        selected = [*self._names(), *self.key, *(["note"] if self.note else [])]
        return f"{_select(selected)} from {self._from()}{where} order by {self.order}"

    def row_sql(self, row: Mapping[str, Any]) -> str:
        """The query of one row, from its values."""
        held = [self.where] if self.where else []
        held += [
            f"{name} is null" if row[name] is None else f"{name} = {literal(row[name])}"
            for name in self.key
        ]
        return f"{_select(self._names())} from {self._from()} where {' and '.join(held)}"

    def row_title(self, row: Mapping[str, Any]) -> str:
        """What a row is about, from its values."""
        texts = [
            str(row[column.name])
            for column in self.shown
            if column.look == "text" and row[column.name] is not None
        ]
        return ", ".join(texts[:4])

    def _from(self) -> str:
        return self.relation or self.reads

    def _names(self) -> list[str]:
        return [name for column in self.shown for name in column.names]


@dataclass(frozen=True)
class Shown:
    """A section of the page.

    Attributes:
        anchor: Its id.
        title: Its heading.
        says: One sentence of what it shows.
        tables: Its tables.
        picture: Draws the rows of the first table's mart.
    """

    anchor: str
    title: str
    says: str
    tables: tuple[TableSpec, ...]
    picture: Callable[[pl.DataFrame], Figure] | None = None


@dataclass(frozen=True)
class Fact:
    """A number of the summary: ``sql`` gives it as ``value``, ``unknown`` is said of a null."""

    says: str
    sql: str
    form: str = ",d"
    unknown: str = ""


def _select(names: Sequence[str]) -> str:
    return f"select {', '.join(dict.fromkeys(names))}"


def literal(value: Any) -> str:
    """A text, number or truth value as SQL has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def _results(kind: str) -> str:
    """The number of results whose badge is of a kind, as ``value``."""
    union = (
        "select result_id, badge from answer_scores_all union "
        "select result_id, badge from win_rates_all"
    )
    return f"select count(*) as value from ({union}) where badge = '{kind}'"  # noqa: S608


def _rows(mart: str) -> str:
    return f"select count(*) as value from {mart}"  # noqa: S608


_INTERVAL = ("ci_low", "ci_high")
_SIDES = ("model_a", "model_b")
_JUDGED = ("judged", "expected", "unparsable")
_WIN_RATES = (
    *_SIDES, "benchmark", "judge", *_SETUP, "win", "tie", "lose", "adjusted_win_pct", _INTERVAL,
    "win_pct", "tie_pct", "lose_pct", "orders_disagree_pct", *_JUDGED, "unchecked",
)  # fmt: skip
_POSITION = (
    "judge", "benchmark", "source", "dataset", "protocol", "prompt_version", "pairs",
    "orders_disagree", "orders_disagree_pct", "full_flips", "full_flips_pct", "toward_first",
    "toward_second", "toward_first_pct",
)  # fmt: skip
_UNFIT = ("benchmark", "judge", *_SETUP, "badge", "reason", *_JUDGED)
_SCORES = (
    "model", "benchmark", "judge", *_SETUP, "turn_1", "turn_2", "score", _INTERVAL, *_JUDGED,
    "unchecked",
)  # fmt: skip
_TRAINED_WITH = (
    *_SIDES, "benchmark", *_SETUP, "parity", "epochs_a", "epochs_b", "steps_a", "steps_b",
    "tokens_a", "tokens_b", "template_a", "template_b",
)  # fmt: skip
_LEADERBOARD = (
    "rank", "model", "benchmark", "judge", *_SETUP, "rating", _INTERVAL, "matchups", "questions",
)  # fmt: skip
_LENGTH = (
    *_SIDES, "benchmark", "judge", "questions", "decided", "longer_wins", "longer_win_pct",
    "win_pct", "lc_win_pct", "lc_method", "lc_questions",
)  # fmt: skip
_AGREEMENT = (
    "judge_a", "judge_b", "benchmark", "turn", "with_ties", "votes", "agree", "agree_pct", "kappa",
)  # fmt: skip
_USAGE = (
    "stage", "role", "model", "dataset", "calls", "prompt_tokens", "completion_tokens", "unusable",
    "cost_usd", "seconds", "lost_calls", "lost_usd",
)  # fmt: skip

SECTIONS: Sequence[Shown] = (
    Shown(
        "scores",
        "Scores of answers",
        "Each answer judged alone, 1 to 10: the mean over all judged turns. Intervals come from "
        "drawing questions anew, the same ones for every model.",
        (
            TableSpec(
                "answer_scores",
                _SCORES,
                "benchmark, judge, score desc, model, result_id",
                _NOT_JUDGED,
                note=True,
            ),
        ),
        plots.score_table,
    ),
    Shown(
        "categories",
        "Scores of answers by category",
        "The same scores by the questions' category.",
        (
            TableSpec(
                "answer_scores_by_category",
                (
                    *("model", "benchmark", "category", "judge", *_SETUP),
                    *("turn_1", "turn_2", "score", *_JUDGED),
                ),
                "benchmark, judge, model, category, result_id",
                _NOT_JUDGED,
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
                (*_WIN_RATES, "rule"),
                "benchmark, model_a, model_b, judge, result_id",
                f"{_NOT_COMPARED} Compare models: {_COMPARE}",
                if_varied=(*_SETUP, "unchecked", "rule"),
                where="is_default_rule",
                note=True,
            ),
            TableSpec(
                "win_rates",
                ("rule", *_WIN_RATES),
                "benchmark, model_a, model_b, judge, result_id, rule",
                "No comparison is published by another rule.",
                title="By the other rules of merging",
                where="not is_default_rule",
                folded=True,
            ),
            TableSpec(
                "win_rates",
                _TRAINED_WITH,
                "benchmark, model_a, model_b, judge, result_id",
                _NOT_COMPARED,
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
                _LEADERBOARD,
                "benchmark, dataset, judge, prompt_version, sampling, rank, model",
                f"{_NOT_COMPARED} Compare models: {_COMPARE}",
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
                "benchmark, judge, prompt_version, source, dataset, protocol",
                f"No pair was judged in both orders. Compare models: {_COMPARE}",
                where="category = 'all'",
            ),
            TableSpec(
                "position_bias",
                ("category", *_POSITION),
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
                _LENGTH,
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
                _AGREEMENT,
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
                "answer_scores_all",
                ("model", *_UNFIT),
                "benchmark, model, judge, result_id",
                "Every result of single judgments is published.",
                title="Single judgments",
                where="badge <> 'ok'",
            ),
            TableSpec(
                "win_rates_all",
                (*_SIDES, *_UNFIT, "stopped"),
                "benchmark, model_a, model_b, judge, result_id",
                "Every comparison is published.",
                title="Comparisons",
                where="badge <> 'ok' and is_default_rule",
            ),
            TableSpec(
                "publication_gate",
                ("subject", "benchmark", "judge", "rule", "reason"),
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
                    "file_name",
                    "reason",
                    ReportColumn(("rejected",), "rows", ",d"),
                    ReportColumn(("example",), "example"),
                ),
                "file_name, reason",
                "No row of an imported file was rejected.",
                relation="(select file_name, reason, count(*) as rejected, min(detail) as example "
                "from rejected_imports group by file_name, reason)",
                relation_key=("file_name", "reason"),
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
                _USAGE,
                "stage, role, model, dataset",
                "No language model has been asked.",
                if_varied=(),
                note=True,
            ),
        ),
    ),
)

FACTS: Sequence[Fact] = (
    Fact("published results of single judgments", _rows("answer_scores")),
    Fact("published comparisons", _rows("win_rates where is_default_rule")),
    Fact("results that are incomplete", _results("incomplete")),
    Fact("results that are unfair", _results("unfair")),
    Fact("verdicts that can be traced", _rows("verdict_trace")),
    Fact("conflicting imported verdicts", _rows("conflicting_verdicts")),
    Fact("rejected rows of imports", _rows("rejected_imports")),
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
