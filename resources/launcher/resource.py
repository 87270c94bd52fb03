"""The launcher as a Dagster resource: one word for all places where work may run."""

from typing import Any

import dagster as dg

from resources.launcher.following import run
from resources.launcher.work import Work
from resources.settings import load_settings


class TrainingLauncher(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Runs trainings and answerings where the home's settings say.

    Attributes:
        home: The home that the work belongs to.
    """

    home: str

    def run(self, context: dg.AssetExecutionContext, work: Work) -> dict[str, Any]:
        """Run a work to its end and return its result.

        Args:
            context: The asset that asks.
            work: What to run.

        Raises:
            dagster.Failure: It failed; the description says why in one sentence. Retries are
                refused where they would not mend it.
        """
        return run(context, work, load_settings(self.home))
