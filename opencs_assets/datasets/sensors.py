"""The landing sensor: a file dropped into ``landing/`` becomes a dataset and is worked on, once."""

import json
import time
from pathlib import Path
from typing import Any

import dagster as dg

from opencs_assets.datasets import catalog
from opencs_assets.datasets.errors import DatasetError
from opencs_assets.partitions import DATASET
from resources.home import Home

INTERVAL_S = 15
TICK_BUDGET_S = 20.0
SELECTIONS = {
    "ingest": ["raw_dataset", "rejected_rows"],
    "estimate": ["raw_dataset", "rejected_rows", "cost_estimate"],
}
IGNORED_ENDINGS = (".part", ".tmp", ".crdownload", ".swp", "~")


def build_landing_sensor(job_name: str, dataset_assets: tuple[str, ...]) -> dg.SensorDefinition:
    """The sensor that starts the dataset family for new and changed files.

    Each content of a file starts one run: its hash is the run key, and the files seen are in the
    cursor by modification time and size, so that an unchanged file is not read again. A changed
    file with the same name is a new version of the same dataset. With ``select`` the subsets
    follow by automation, because they cost nothing.

    Args:
        job_name: Name of the dataset family's job.
        dataset_assets: Its assets.
    """

    @dg.sensor(
        name="landing",
        job_name=job_name,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Turns files in OPENCS_HOME/landing into datasets and starts their runs.",
    )
    def landing(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
        settings = home.settings()
        mode = settings.on_new_data
        seen: dict[str, Any] = json.loads(context.cursor or "{}")
        present: dict[str, Any] = {}
        requests, names, notes = [], [], []
        deadline = time.monotonic() + TICK_BUDGET_S
        for file in _files(home.folder / "landing"):
            state = file.stat()
            mark = [state.st_mtime_ns, state.st_size]
            if seen.get(file.name) == mark:
                present[file.name] = mark
                continue
            if time.time() - state.st_mtime < settings.landing.settle_s:
                notes.append(f"{file.name}: still being written")
                continue
            if time.monotonic() > deadline:
                notes.append(f"{file.name}: left for the next tick")
                continue
            present[file.name] = mark
            try:
                source = catalog.add_source(home.folder, file, None)
            except DatasetError as error:
                context.log.error(str(error))
                notes.append(f"{file.name}: {error}")
                continue
            names.append(source.name)
            requests.append(
                dg.RunRequest(
                    run_key=f"{source.name}:{source.sha256}",
                    partition_key=source.name,
                    asset_selection=[
                        dg.AssetKey(name) for name in SELECTIONS.get(mode, dataset_assets)
                    ],
                    tags={"opencs/landing": mode},
                )
            )
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[DATASET.build_add_request(names)] if names else [],
            cursor=json.dumps(present, sort_keys=True),
            skip_reason=None if requests else "; ".join(notes) or "nothing new in landing",
        )

    return landing


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file()
        and not file.name.startswith(".")
        and not file.name.endswith(IGNORED_ENDINGS)
    )
