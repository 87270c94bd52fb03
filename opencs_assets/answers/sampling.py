"""How an answer is sampled: temperature by category, and a seed of its own for every answer."""

from opencs_assets.provenance import content_hash

# MT-Bench's temperatures by category (FastChat, fastchat/llm_judge/common.py: temperature_config).
TEMPERATURES = {
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
SEED_MASK = 2**31 - 1


def temperature(category: str) -> float:
    """Sampling temperature of a category; 0 is greedy."""
    return TEMPERATURES.get(category, OTHER_TEMPERATURE)


def answer_seed(seed: int, benchmark: str, question_id: str, turn: int) -> int:
    """Seed of one answer.

    Own to the answer, so that it does not depend on which questions are answered together, nor on
    whether a killed run was resumed.

    Args:
        seed: The recipe's seed.
        benchmark: The benchmark's name.
        question_id: The question's id.
        turn: 1-based turn.
    """
    return int(content_hash([seed, benchmark, question_id, turn]), 16) & SEED_MASK
