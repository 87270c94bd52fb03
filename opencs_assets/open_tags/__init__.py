"""Open tags: what the tagger calls each sample, and how its words become comparable.

Here belong the tagging prompt, reading its replies, and the normalization of tags, one module a
step. Grouping tags into clusters belongs in ``clusters``.
"""
