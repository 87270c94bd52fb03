"""Declarations: experiments, matchups, recipes, profiles, and the benchmarks that are known.

Reading and checking declarations belongs here; acting on them does not, and neither does anything
of Dagster.
"""
