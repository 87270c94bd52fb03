"""Starts trainings and answerings where the settings say, and brings back what they report.

Assets ask ``resource``. ``protocol`` says what a launcher must be able to do, and ``following``
what a run does with any launcher: ``local`` runs a process here, ``kubernetes`` a Job. All run the
same module on the same job file (``job``), and report through Dagster Pipes. How runs of Dagster
itself are launched belongs to ``resources.runs``.
"""
