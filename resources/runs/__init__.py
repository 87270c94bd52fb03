"""How runs are executed, launched and watched, and what becomes of those whose process was killed.

What a run computes is not here, and neither is how a training's process is started: that is
``resources.launcher``.
"""
