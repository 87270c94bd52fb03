"""Benchmarks: which are known, how their files are read, how they are fetched and answered.

A benchmark is declared once, in ``declared``. Reading turns any of their files, and the user's own,
into questions in one form. What models answer is not here: that is ``answers``.
"""
