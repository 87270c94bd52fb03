"""From answers to verdicts: what a judge is asked, how its replies are read and orders merged.

Here belong judge prompts, protocols and the checks that every expected verdict is there. Counting
verdicts into scores and win rates belongs in ``dbt_eval``; making answers in ``answers``.
"""
