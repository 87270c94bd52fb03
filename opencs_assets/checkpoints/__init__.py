"""Checkpoints: a base model fine-tuned on a subset by an experiment's recipe.

Here belong recipes resolved to steps, the encoding of conversations, the training script, which
runs anywhere, and what makes a checkpoint traceable. How a process is started does not: that is
``resources.launcher``.
"""
