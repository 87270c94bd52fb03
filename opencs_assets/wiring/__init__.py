"""Dagster's glue: the home's resources, and how assets' tables reach the lake.

What a stage computes does not belong here, and neither does anything that knows one stage.
"""
