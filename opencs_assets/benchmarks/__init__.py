"""Benchmarks: how their files are read, and how they are fetched.

A benchmark is declared once, in ``config.benchmarks``. Reading turns any of their files, and the
user's own, into questions in one form. What models answer is not here: that is ``answers``.
"""
