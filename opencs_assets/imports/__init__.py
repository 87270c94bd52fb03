"""Verdicts and answers that people bring along, in the forms that other tools write.

Recognizing, keeping and reading such files belongs here; judging does not.
"""
