"""The command ``opencs``: words, options and what a terminal shows.

What a command does belongs to the module that it asks.
"""
