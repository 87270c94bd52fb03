"""Import of verdicts and answers that people already have: files in, one table of claims out.

Here belong the kept files, telling a file's form by its content, the forms (one module each), and
finding rows that claim the same judgment. Judging anew belongs in ``verdicts``; counting verdicts
in ``dbt_eval``.
"""
