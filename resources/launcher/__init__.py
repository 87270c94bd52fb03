"""Starts trainings and answerings where the settings say, and brings back what they report.

``TrainingLauncher`` is the resource; ``local`` runs a process here, ``kubernetes`` a Job. Both run
the same module on the same job file, and report through Dagster Pipes.
"""

from resources.launcher.resource import TrainingLauncher
from resources.launcher.work import Work

__all__ = ["TrainingLauncher", "Work"]
