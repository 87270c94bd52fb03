"""What can be wrong with benchmarks."""

from resources.errors import MendableError


class BenchmarkError(MendableError):
    """A benchmark can't be used; the message names file, line and reason."""
