"""What determines how one answer is sampled, besides its benchmark's settings: its own seed."""

from resources.provenance import content_hash

SEED_MASK = 2**31 - 1


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
