"""Benchmarks: the platform's own work beside the plain way, on the same data in one run."""
