"""Scores: how good the samples of a cluster are, by showing a language model two at a time.

Here belong pairing, the scoring prompts and how comparisons become scores, and single scores for
the baseline. Choosing samples by their scores belongs in ``selection``.
"""
