"""Calls made by a provider's Batch API: half the price, and up to a day.

Here belong how calls get into batches, how these are followed through crashes of this and other
processes, and how their files are read. Calls that are sent one by one, and what is asked in any
of them, do not; nor do the tables, which are the reply store's.
"""
