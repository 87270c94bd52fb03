"""Calls to language models: one client for every role, its reply store and the embedded server.

Here belong how a call is made, kept, counted and read (text, token probabilities). What is asked
and what a reply means belong to the stage that asks.
"""
