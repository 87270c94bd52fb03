"""The launcher as a Dagster resource, wherever work may run."""

from contextlib import closing
from typing import Any

import dagster as dg

from resources.launcher.following import FollowedWork
from resources.launcher.protocol import LauncherError, launcher_of
from resources.launcher.work import Work, failure
from resources.settings import load_settings


class TrainingLauncher(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Runs trainings and answerings where the home's settings say."""

    home: str

    def run(self, context: dg.AssetExecutionContext, work: Work) -> dict[str, Any]:
        """Run a work to its end and return its result.

        Raises:
            dagster.Failure: The work failed; the description says why in one sentence. Retries are
                refused where they would not mend it.
        """
        try:
            with closing(launcher_of(load_settings(self.home), context.log)) as launcher:
                launcher.refuse(work)
                return FollowedWork(context, work, launcher).result()
        except LauncherError as error:
            # A job that runs goes on, so that a training is not lost because nobody watches it.
            raise failure(work, str(error), final=error.refused) from None
        except OSError as error:
            raise failure(work, f"the Job's folder can't be used: {error}", final=False) from None
