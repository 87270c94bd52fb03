"""How benchmarks are answered: temperature and length, as published with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# MT-Bench's temperatures by category (FastChat, fastchat/llm_judge/common.py: temperature_config).
MT_BENCH_TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
# FastChat's for any other category, and the published one for the test sets.
OTHER_TEMPERATURE = 0.7
# The published comparisons allow so many tokens (OpenCS, infer/fastchat/llm_judge/gen_answer.sh).
MAX_NEW_TOKENS = 512


@dataclass(frozen=True)
class BenchmarkSampling:
    """How a benchmark's questions are answered.

    Attributes:
        max_new_tokens: Most tokens of an answer, where the recipe does not say otherwise.
        temperatures: Sampling temperature by category; 0 is greedy.
        other_temperature: That of any other category.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    temperatures: Mapping[str, float] = field(default_factory=lambda: MT_BENCH_TEMPERATURES)
    other_temperature: float = OTHER_TEMPERATURE

    def temperature(self, category: str) -> float:
        """Sampling temperature of a category; 0 is greedy."""
        return self.temperatures.get(category, self.other_temperature)

    def by_category(self, categories: Iterable[str]) -> dict[str, float]:
        """Temperature of each of the categories."""
        return {name: self.temperature(name) for name in sorted(set(categories))}


# FastChat's way, for benchmarks in MT-Bench's form and the user's own.
BY_CATEGORY = BenchmarkSampling()
# The test sets' categories are topics: Vicuna's ``coding`` is answered at 0.7 like all else of it.
TEST_SET = BenchmarkSampling(temperatures={})
