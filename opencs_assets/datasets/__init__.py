"""Datasets: from a file that somebody has to canonical samples, and where the files are kept.

Here belong row shapes, prompt templates that stand in data, the catalog of sources, comparing
samples with each other (duplicates) and with benchmarks (contamination), and the assets, checks and
sensors over them. What a sample is about (tags) or worth (scores) does not.
"""
