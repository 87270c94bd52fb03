"""The sensor of ``landing/verdicts``, which imports each file there once."""

import hashlib

import dagster as dg

from opencs_assets.imports.errors import VerdictFileError
from opencs_assets.imports.kept import keep
from opencs_assets.imports.options import ImportOptions
from opencs_assets.imports.recognize import refusal
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.landing import Landing

INTERVAL_S = 15
FOLDER = "verdicts"


def build_import_sensor(job_name: str) -> dg.SensorDefinition:
    """The sensor that imports new and changed files.

    All files of a tick start one run of the job, which reads all files that were ever imported; the
    files' hashes are the run's key. A file that is not understood is reported once, and again only
    when it changes; it stays in place, because its content may be all that somebody has.
    """

    @dg.sensor(
        name="landing_verdicts",
        job_name=job_name,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Imports the files of verdicts and answers in OPENCS_HOME/landing/verdicts.",
    )
    def landing_verdicts(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
        look = Landing(
            home.folder / "landing" / FOLDER, context.cursor, home.settings().landing.settle_s
        )
        hashes = []
        for file in look.new_files():
            try:
                hashes.append(keep(home.folder, file, ImportOptions()).sha256)
            except VerdictFileError as error:
                context.log.error(refusal(error))
                look.notes.append(
                    f"{file.name}: {error}; options are given with `opencs import-verdicts {file}`"
                )
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_key=_key(hashes))] if hashes else [],
            cursor=look.cursor,
            skip_reason=None if hashes else "; ".join(look.notes) or "nothing new",
        )

    return landing_verdicts


def _key(hashes: list[str]) -> str:
    """The hash of one file's content, or of those of several."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(sorted(set(hashes))).encode()).hexdigest()
