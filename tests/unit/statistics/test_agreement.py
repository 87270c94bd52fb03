"""Agreement of judges: the published one, and each vote against each by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from opencs_assets.statistics.agreement import agreement

VOTES = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-1, 0, 1])), max_size=25)


def between(items, votes, other_items, other_votes):
    """How often the one judge voted as the row and the other as the column about an item."""
    numbers = np.unique([*items, *other_items])
    counts, other_counts = np.zeros((2, len(numbers), 3), np.int64)
    np.add.at(counts, (np.searchsorted(numbers, items), np.array(votes, int) + 1), 1)
    np.add.at(
        other_counts, (np.searchsorted(numbers, other_items), np.array(other_votes, int) + 1), 1
    )
    return counts.T @ other_counts


def read(path: Path, judge: str, turns=(1, 2)):
    """Items and votes, with the models of each pair in one order."""
    items, votes = [], []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if not row["judge"].startswith(judge) or row["turn"] not in turns:
            continue
        one, other = row["model_a"], row["model_b"]
        vote = {"model_a": -1, "model_b": 1}.get(row["winner"], 0)
        if one > other:
            one, other, vote = other, one, -vote
        items.append(hash((row["question_id"], row["turn"], one, other)))
        votes.append(vote)
    return items, votes


@pytest.mark.parametrize(
    ("turns", "ties", "agree", "votes"),
    [
        ((1, 2), False, 1458, 1723),
        ((1, 2), True, 1757, 2668),
        ((1,), False, 727, 859),
        ((2,), False, 731, 864),
    ],
)
def test_gpt4_against_experts(shared_data: Path, turns, ties, agree, votes):
    folder = shared_data / "judgments" / "human"
    table = between(
        *read(folder / "gpt4_pair.jsonl", "gpt4", turns),
        *read(folder / "human.jsonl", "expert", turns),
    )
    found = agreement(table, ties=ties)
    assert (found.agree, found.votes) == (agree, votes)
    if turns == (1, 2) and not ties:
        assert f"{found.share:.1%}" == "84.6%"


@given(VOTES, VOTES)
def test_each_vote_against_each(one, other):
    paired = [(a, b) for item, a in one for same, b in other if item == same]
    table = between(*_columns(one), *_columns(other))
    for ties in (True, False):
        kept = [pair for pair in paired if ties or 0 not in pair]
        found = agreement(table, ties=ties)
        assert (found.votes, found.agree) == (len(kept), sum(a == b for a, b in kept))
        _same_kappa(found.kappa, kept)
        turned = agreement(table.T, ties=ties)
        np.testing.assert_allclose(turned.kappa, found.kappa)


def _columns(votes):
    return [item for item, _ in votes], [vote for _, vote in votes]


def _same_kappa(kappa, pairs):
    if len(set(sum(pairs, ()))) < 2:
        assert np.isnan(kappa)
    else:
        expected = cohen_kappa_score([a for a, _ in pairs], [b for _, b in pairs])
        np.testing.assert_allclose(kappa, expected, atol=1e-12)


def test_no_votes():
    found = agreement(between([], [], [1], [0]))
    assert (found.votes, found.agree) == (0, 0)
    assert np.isnan([found.share, found.kappa]).all()
    # All ties: nothing is left without them.
    assert agreement(between([1], [0], [1], [0]), ties=False).votes == 0
    assert agreement(between([1], [0], [1], [0])).votes == 1
