"""Calls to language models: one client for every role, its reply store and the embedded server.

This package makes, keeps, counts and reads calls (their text and token probabilities). Prompts, and
what a reply means, belong to the stage that asks.
"""
