"""What people declare: experiments, matchups, recipes and profiles.

Reading and checking declarations belongs here; acting on them does not, and neither does anything
of Dagster.
"""
