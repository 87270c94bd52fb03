"""Rows of comparisons and candidates for the tests of scoring."""

import polars as pl

from opencs_assets.tables.scores import SCORE_COMPARISONS


def compared(*rows, round_number: int = 0) -> pl.DataFrame:
    """Rows of ``score_comparisons`` from (cluster, a, b, shown first, score of a, score of b)."""
    names = ("cluster", "sample_a", "sample_b", "shown_first", "score_a", "score_b")
    return pl.DataFrame(
        [
            {
                **dict(zip(names, row, strict=True)),
                "round": round_number,
                "status": "unparsable" if row[-1] is None else "ok",
                "reading": "generated",
                "reply_id": f"r{number}",
                "model": "m",
                "prompt_version": "p",
            }
            for number, row in enumerate(rows)
        ],
        schema=SCORE_COMPARISONS.schema,
    )


def members(*names: str, cluster: int = 0) -> pl.DataFrame:
    """Candidates of one cluster."""
    schema = {"cluster": pl.Int64, "sample_id": pl.String}
    return pl.DataFrame([(cluster, name) for name in names], schema=schema, orient="row")
