"""Selection: which samples a subset has, by OpenCS or by a baseline, and why.

Here belong the selectors, one entry each in the registry, and a person's pins. Scoring belongs in
``scores``; training on a subset in ``checkpoints``.
"""
