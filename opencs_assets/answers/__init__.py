"""Answers: what models reply to the questions of benchmarks, turn by turn.

Here belong benchmarks, their readers and the generation of answers, which runs anywhere. Judging
answers does not: that is ``verdicts``.
"""
