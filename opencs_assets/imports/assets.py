"""The asset that reads imported files into tables of verdicts, rejected rows and answers."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from opencs_assets.benchmarks.questions import read_benchmarks
from opencs_assets.config.experiments import Experiments
from opencs_assets.imports.claims import STATES, conflicting
from opencs_assets.imports.reading import ImportedTables, by_reason, read_imports
from opencs_assets.wiring.automation import free_stage
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import IMPORTED
from opencs_assets.wiring.metadata import bullets, preview, table_out

SHOWN = 20
HOW_TO_CHOOSE = (
    "Two rows claim the same judgment with different scores. Say which file is right: "
    "`opencs prefer-verdicts FILE`"
)
TABLES = {
    "imported_verdicts": "Verdicts that people already had, from the files of "
    "`opencs import-verdicts` and landing/verdicts, each used, a duplicate, in conflict, or "
    "overruled.",
    "rejected_verdicts": "Rows of imported files that are no verdict or answer, each with the "
    "reason.",
    "imported_answers": "Models' answers that people already had, from FastChat's files and from "
    "those that hold verdicts and answers.",
}


def build_import_assets() -> list[dg.AssetsDefinition]:
    """The asset that reads the imported files; its tables are made anew each time."""

    @dg.multi_asset(
        name="imported_verdicts",
        # The asset reads the questions from their files, so an import need not wait for the table.
        deps=["benchmark_questions"],
        outs={
            name: table_out(
                name,
                description,
                group="verdicts",
                family=IMPORTED,
                kinds={"polars", "parquet"},
                code_version="1",
                automation_condition=free_stage(),
                owners=["team:evaluation"],
            )
            for name, description in TABLES.items()
        },
    )
    def imported_verdicts(
        context: dg.AssetExecutionContext, home: Home
    ) -> Iterator[dg.MaterializeResult]:
        with clear_failures():
            questions = read_benchmarks(home.folder, {})
            imported = read_imports(home.folder, questions)
            unknown = unknown_models(imported, home.experiments())
        reasons = by_reason(imported.rejected)
        conflicts = conflicting(imported.verdicts)
        context.log.info(
            f"{imported.files} files: {imported.verdicts.height} verdicts, "
            f"{imported.answers.height} answers, rejected: {reasons or 'none'}"
        )
        if conflicts:
            context.log.warning(f"{conflicts} judgments in conflict. {HOW_TO_CHOOSE}")
        states = dict(imported.verdicts["state"].value_counts().iter_rows())
        yield dg.MaterializeResult(
            asset_key="imported_verdicts",
            value=imported.verdicts,
            metadata={
                "files": imported.files,
                **{state: states.get(state, 0) for state in STATES},
                "judgments_in_conflict": conflicts,
                **({"how_to_choose": HOW_TO_CHOOSE} if conflicts else {}),
                "rejected": imported.rejected.height,
                "rejected_by_reason": reasons,
                "unknown_models": len(unknown),
                **({"which_unknown_models": bullets(unknown[:SHOWN])} if unknown else {}),
                "by_file": preview(by_file(imported), SHOWN),
            },
        )
        yield dg.MaterializeResult(
            asset_key="rejected_verdicts", value=imported.rejected, metadata={"reasons": reasons}
        )
        yield dg.MaterializeResult(
            asset_key="imported_answers",
            value=imported.answers,
            metadata={
                "models": imported.answers["model"].n_unique(),
                "duplicates": imported.duplicate_answers,
                "in_conflict": imported.conflicting_answers,
            },
        )

    return [imported_verdicts]


def unknown_models(imported: ImportedTables, experiments: Experiments) -> list[str]:
    """Models with verdicts that are not declared and have no answers; their verdicts are kept."""
    judged = {*imported.verdicts["model_a"], *imported.verdicts["model_b"].drop_nulls()}
    known = {*experiments.experiments, *experiments.outside_models, *imported.answers["model"]}
    return sorted(judged - known)


def by_file(imported: ImportedTables) -> pl.DataFrame:
    """How many rows of each file have which state, the files with most verdicts first."""
    counted = imported.verdicts.group_by("file_name", "file", "format").agg(
        verdicts=pl.len(),
        **{state: (pl.col("state") == state).sum() for state in STATES},
    )
    rejected = imported.rejected.group_by("file").agg(rejected=pl.len())
    return (
        counted.join(rejected, on="file", how="left")
        .with_columns(pl.col("rejected").fill_null(0))
        .sort("verdicts", "file_name", descending=[True, False])
        .drop("file")
    )
