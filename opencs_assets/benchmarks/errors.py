"""What can be wrong with benchmarks."""


class BenchmarkError(ValueError):
    """A benchmark can't be used; the message names file, line and reason."""
