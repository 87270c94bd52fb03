"""Calls made by a provider's Batch API: half the price, and up to a day.

How calls get into batches, how batches are followed through crashes of this and other processes,
and how their files are read belongs here. Calls that are sent one by one, the prompts, and the
tables of the reply store do not.
"""
