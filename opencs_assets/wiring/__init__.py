"""Dagster's glue: partitions, jobs, automation, checks, metadata, the home and the lake's tables.

What a stage computes does not belong here.
"""
