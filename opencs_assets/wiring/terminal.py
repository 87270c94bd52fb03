"""What a run says on a terminal: one line an asset, and every warning."""

import logging
import sys
from typing import Any

import dagster as dg


class _Lines(logging.Handler):
    """Prints steps as they start and end."""

    def __init__(self, quiet: frozenset[str]) -> None:
        super().__init__()
        self._quiet = quiet
        self._rows: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        if event is None:
            message = str(meta.get("orig_message") or record.msg)
            # That a check was skipped because its asset failed is no news.
            if record.levelno >= logging.WARNING and not message.startswith("Dependencies for"):
                _say(f"    {record.levelname.lower()}: {message}")
            return
        self._event(event)

    def _event(self, event: dg.DagsterEvent) -> None:
        kind, step = event.event_type_value, event.step_key or ""
        if kind == "STEP_START" and step not in self._quiet:
            _say(f"  ▸ {step}")
        elif kind == "ASSET_MATERIALIZATION":
            found = event.step_materialization_data.materialization
            count = found.metadata.get("dagster/row_count")
            reused = found.metadata.get("reused")
            said = f"{found.asset_key.to_user_string()}"
            said += f" {count.value:,} rows" if count is not None else ""
            said += " (reused)" if reused is not None and reused.value else ""
            self._rows.setdefault(step, []).append(said)
        elif kind == "ASSET_CHECK_EVALUATION":
            found_check = event.asset_check_evaluation_data
            if not found_check.passed:
                mark = "✗" if found_check.severity == dg.AssetCheckSeverity.ERROR else "!"
                _say(
                    f"    {mark} check {found_check.asset_key.to_user_string()}."
                    f"{found_check.check_name}: {found_check.description}"
                )
        elif kind == "STEP_SUCCESS" and step not in self._quiet:
            seconds = event.step_success_data.duration_ms / 1000
            tables = ", ".join(self._rows.pop(step, [])) or step
            _say(f"  ✓ {tables} in {seconds:.1f} s")
        elif kind == "STEP_FAILURE":
            _say(f"  ✗ {step}")


@dg.logger(
    description="One line an asset, for the command line.",
    config_schema={"quiet": dg.Field([str], default_value=[], description="Steps without a line")},
)
def terminal_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """The logger that ``opencs materialize`` runs with."""
    logger = logging.Logger("opencs.terminal", level=logging.DEBUG)
    logger.addHandler(_Lines(frozenset(context.logger_config["quiet"])))
    return logger


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
