"""Starts trainings and answerings where the settings say, and brings back what they report.

``resource`` is what assets ask; ``local`` runs a process here, ``kubernetes`` a Job. Both run the
same module on the same job file (``job``), and report through Dagster Pipes. How runs of Dagster
itself are launched does not belong here, but in ``resources.runs``.
"""
