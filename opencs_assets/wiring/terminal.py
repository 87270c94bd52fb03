"""The logger that writes a run's progress to a terminal: one line an asset, and every warning."""

import logging
import sys
from typing import Any

import dagster as dg


class _Lines(logging.Handler):
    """Prints steps as they start and end."""

    def __init__(self, quiet: frozenset[str]) -> None:
        super().__init__()
        self._quiet = quiet
        self._tables: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        if event is None:
            message = str(meta.get("orig_message") or record.msg)
            # A check that is skipped because its asset failed needs no line beside the failure's.
            if record.levelno >= logging.WARNING and not message.startswith("Dependencies for"):
                _print(f"    {record.levelname.lower()}: {message}")
            return
        self._event(event)

    def _event(self, event: dg.DagsterEvent) -> None:
        kind, step = event.event_type_value, event.step_key or ""
        if kind == "STEP_START" and step not in self._quiet:
            _print(f"  ▸ {step}")
        elif kind == "ASSET_MATERIALIZATION":
            materialization = event.step_materialization_data.materialization
            count = materialization.metadata.get("dagster/row_count")
            reused = materialization.metadata.get("reused")
            table = materialization.asset_key.to_user_string()
            table += f" {count.value:,} rows" if count is not None else ""
            table += " (reused)" if reused is not None and reused.value else ""
            self._tables.setdefault(step, []).append(table)
        elif kind == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if not check.passed:
                mark = "✗" if check.severity == dg.AssetCheckSeverity.ERROR else "!"
                _print(
                    f"    {mark} check {check.asset_key.to_user_string()}."
                    f"{check.check_name}: {check.description}"
                )
        elif kind == "STEP_SUCCESS" and step not in self._quiet:
            seconds = event.step_success_data.duration_ms / 1000
            tables = ", ".join(self._tables.pop(step, [])) or step
            _print(f"  ✓ {tables} in {seconds:.1f} s")
        elif kind == "STEP_FAILURE":
            _print(f"  ✗ {step}")


@dg.logger(
    description="One line an asset, for the command line.",
    config_schema={"quiet": dg.Field([str], default_value=[], description="Steps without a line")},
)
def terminal_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """The logger that ``opencs materialize`` runs with."""
    logger = logging.Logger("opencs.terminal", level=logging.DEBUG)
    logger.addHandler(_Lines(frozenset(context.logger_config["quiet"])))
    return logger


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
