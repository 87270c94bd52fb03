"""Which modules have a method, and which tests stand beside each: the unit tests of its package."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("datasets", "open_tags", "clusters", "scores", "selection", "benchmarks", "imports"),
    *("protocols", "statistics", "verdicts"),
)
# What a package has beside its method: Dagster's side, pictures, and words of errors.
BESIDE = {"__init__", "assets", "checks", "definitions", "sensors", "plots", "errors", "catalog"}
# Modules outside these packages, or with other tests than their package's; places under tests/.
OTHERS = {
    "opencs_assets/checkpoints/encoding.py": "unit/checkpoints/test_encoding.py",
    "opencs_assets/planning/sample_size.py": "unit/planning/test_sample_size.py",
    "opencs_assets/planning/stability.py": "unit/planning/test_stability.py",
    "resources/lake.py": "unit/tables/test_lake.py",
    "resources/warehouse.py": "integration/warehouse/test_publish.py",
    "resources/llm/budget.py": "unit/resources/test_budget.py",
    "resources/llm/rate.py": "unit/resources/test_rate.py",
    "resources/llm/learned_rate.py": "unit/resources/test_rate.py",
    "resources/llm/concurrency.py": "unit/resources/test_concurrency.py",
    "resources/llm/completion.py": "unit/resources/test_completion.py",
    "resources/llm/prices.py": "unit/resources/test_llm_parts.py",
    "resources/llm/faults.py": "unit/resources/test_llm_parts.py",
    "resources/llm/tokens.py": "unit/resources/test_tokens.py",
    "resources/llm/readings.py": "unit/resources/test_readings.py",
    "dbt_eval/models/marts/evaluation/publication_gate.sql": "integration/warehouse/test_gate.py",
    "dbt_eval/models/marts/evaluation/win_rates_all.sql": "integration/warehouse/test_results.py "
    "integration/warehouse/test_known_numbers.py",
    "dbt_eval/models/marts/evaluation/pair_outcomes.sql": "integration/warehouse/test_results.py "
    "integration/warehouse/test_known_numbers.py",
    "dbt_eval/models/marts/evaluation/single_outcomes.sql": "integration/warehouse/test_results.py "
    "integration/warehouse/test_known_numbers.py",
    "dbt_eval/models/interim/pair_cells.sql": "integration/warehouse/test_gate.py",
    "dbt_eval/models/interim/trained_models.sql": "integration/warehouse/test_gate.py",
}


@dataclass(frozen=True)
class Method:
    """A module with a method, and the tests beside it; paths from the project's folder."""

    path: str
    tests: tuple[str, ...]

    def is_called(self, name: str) -> bool:
        """Whether a person means this module: its path, its package or its plain name."""
        path = Path(self.path)
        return name.removesuffix("/") in (self.path, path.stem, *path.parts, str(path.parent))


def methods() -> list[Method]:
    """All modules with a method, in the order of their paths."""
    modules = {
        str(path.relative_to(ROOT)): f"unit/{package}"
        for package in PACKAGES
        for path in (ROOT / "opencs_assets" / package).rglob("*.py")
        if path.stem not in BESIDE
    }
    return [
        Method(path, tuple(f"tests/{each}" for each in tests.split()))
        for path, tests in sorted({**modules, **OTHERS}.items())
    ]


def other_module(path: str) -> list[Method]:
    """Another module of a package that has unit tests, by its path; nothing for other names."""
    tests = f"tests/unit/{Path(path).parts[1]}" if path.count("/") else ""
    is_there = (ROOT / path).is_file() and (ROOT / tests).is_dir()
    return [Method(path, (tests,))] if tests and is_there else []
