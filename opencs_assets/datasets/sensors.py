"""The landing sensor: it makes a dataset of each file in ``landing/`` and starts its run, once."""

import dagster as dg

from opencs_assets.datasets import catalog
from opencs_assets.datasets.errors import DatasetError
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.landing import Landing
from opencs_assets.wiring.partitions import DATASET

INTERVAL_S = 15
SELECTIONS = {
    "ingest": ["raw_dataset", "rejected_rows"],
    "estimate": ["raw_dataset", "rejected_rows", "cost_estimate"],
}


def build_landing_sensor(job_name: str, dataset_assets: tuple[str, ...]) -> dg.SensorDefinition:
    """The sensor that starts the dataset family for new and changed files.

    Each content of a file starts one run, because its hash is the run key; the cursor holds the
    time and size of each file that was read, so that an unchanged file is not read again. A changed
    file with the same name is a new version of the same dataset. Where the settings say ``select``,
    the run makes all of ``dataset_assets``, and automation the subsets, because they cost nothing.
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
        look = Landing(home.folder / "landing", context.cursor, settings.landing.settle_s)
        requests, names = [], []
        for file in look.new_files():
            try:
                source = catalog.add_source(home.folder, file, None)
            except DatasetError as error:
                context.log.error(str(error))
                look.notes.append(f"{file.name}: {error}")
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
            cursor=look.cursor,
            skip_reason=None if requests else "; ".join(look.notes) or "nothing new in landing",
        )

    return landing
