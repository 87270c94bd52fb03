"""A run that holds its pool until a file is there, as `opencs materialize` would run it."""

import os
import signal
import time
from pathlib import Path

import dagster as dg

from opencs_assets.wiring import running
from opencs_assets.wiring.terminal import terminal_logger
from resources.runs.executor import one_process_executor
from tests.forks import preload

preload(__name__)


def hold(folder: Path, go: Path, log: Path) -> None:
    """Run the asset in this process, which writes into the log alone."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["DAGSTER_HOME"] = str(folder)
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)

    @dg.asset(pool="llm_api")
    def holds() -> None:
        print("at work", flush=True)
        while not go.exists():
            time.sleep(0.05)

    defs = dg.Definitions(
        assets=[holds],
        jobs=[dg.define_asset_job("holding_job", selection=["holds"])],
        executor=one_process_executor,
        loggers={"terminal": terminal_logger},
    )
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        ran = running.run(defs, instance, running.Step("holding", "holding_job", None, ("holds",)))
    print("ended", ran.error, flush=True)
