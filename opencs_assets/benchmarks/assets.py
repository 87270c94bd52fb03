"""The asset ``benchmark_questions``."""

import dagster as dg
import polars as pl

from opencs_assets.benchmarks.questions import read_benchmarks
from opencs_assets.config.experiments import Experiments
from opencs_assets.wiring.failures import clear_failures
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.jobs import BENCHMARKS
from opencs_assets.wiring.metadata import table_metadata


def build_benchmark_assets(experiments: Experiments) -> list[dg.AssetsDefinition]:
    """The asset that reads the questions of all benchmarks."""

    @dg.asset(
        io_manager_key="lake",
        description=(
            "The questions of all benchmarks: the package's, and those in `benchmarks` of the home "
            "(`opencs benchmarks fetch`)."
        ),
        kinds={"json", "parquet"},
        owners=["team:evaluation"],
        # Datasets are compared with the questions, so in the graph they stand before them.
        group_name="benchmarks",
        tags=BENCHMARKS.tags,
        metadata=table_metadata("benchmark_questions"),
        code_version="2",
    )
    def benchmark_questions(home: Home) -> dg.MaterializeResult[pl.DataFrame]:
        required = {
            f"matchups.{name}": matchup.benchmark for name, matchup in experiments.matchups.items()
        }
        required |= {
            f"benchmarks[{place}]": name for place, name in enumerate(experiments.benchmarks or ())
        }
        with clear_failures():
            questions = read_benchmarks(home.folder, required)
        sizes = questions.group_by("benchmark", maintain_order=True).len()
        return dg.MaterializeResult(
            value=questions,
            metadata={
                "questions": dict(sizes.iter_rows()),
                "turns": int(questions["turns"].list.len().sum()),
                "with_reference": questions.filter(pl.col("references").list.len() > 0).height,
            },
        )

    return [benchmark_questions]
