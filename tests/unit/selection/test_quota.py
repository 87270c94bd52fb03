"""Choosing by quota, against the same rule written out step by step."""

import numpy as np
import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from opencs_assets.selection.choice import CONSIDERED, SelectorOptions
from opencs_assets.selection.quota import choose_by_quota

NAMES = {0: "zero", 1: "one", 2: "two"}
# By candidates and by members, clusters have their turns in different orders; 3 has no row.
MEMBERS = {0: 5, 1: 9, 2: 5}
SCHEMA = {"cluster": pl.Int64, "sample_id": pl.String, "score": pl.Float64}
SAMPLES = list("abcdefgh")


def chosen(by_cluster, excluded=frozenset(), **options):
    scores = pl.DataFrame(
        [(c, sample, score) for c, own in by_cluster.items() for sample, score in own.items()],
        schema=SCHEMA,
        orient="row",
    )
    clusters = pl.DataFrame(
        [(cluster, NAMES[cluster], MEMBERS[cluster]) for cluster in NAMES],
        schema={"cluster": pl.Int64, "name": pl.String, "members": pl.Int64},
        orient="row",
    )
    # Rows may come in any order.
    scores = scores.sample(fraction=1, shuffle=True, seed=1)
    return choose_by_quota(scores, clusters, SelectorOptions(**options), excluded)


def by_hand(by_cluster, excluded, k, quota, refill, seed, cluster_size):
    """Rows of ``CONSIDERED`` by the documented rule, one decision after the other."""
    pairs = sorted((cluster, sample) for cluster, own in by_cluster.items() for sample in own)
    draw = dict(zip(pairs, np.random.default_rng(seed).permutation(len(pairs)), strict=True))
    ranking = {
        cluster: sorted(
            own,
            key=lambda s: (own[s] is None, -(own[s] or 0), draw[cluster, s]),
        )
        for cluster, own in by_cluster.items()
        if own
    }
    sizes = MEMBERS if cluster_size == "members" else {c: len(own) for c, own in ranking.items()}
    turns = sorted(ranking, key=lambda c: (sizes.get(c, np.inf), c))
    taken, round_ = {}, 0
    while len(taken) < k and (refill or not round_):
        before = len(taken)
        for cluster in turns:
            left = [s for s in ranking[cluster] if s not in taken and s not in excluded]
            for sample in left[: min(quota, k - len(taken))]:
                taken[sample] = (cluster, round_)
        round_ += 1
        if len(taken) == before:
            break
    cuts = {}
    for sample, (cluster, _) in taken.items():
        if (score := by_cluster[cluster][sample]) is not None:
            cuts[cluster] = min(score, cuts.get(cluster, score))
    rows = []
    for sample in {sample for _, sample in pairs}:
        places = [(own.index(sample) + 1, c) for c, own in ranking.items() if sample in own]
        cluster = taken[sample][0] if sample in taken else min(places)[1]
        place, places = ranking[cluster].index(sample) + 1, len(ranking[cluster])
        score, cut = by_cluster[cluster][sample], cuts.get(cluster)
        reason = f"place {place} of {places} in cluster {cluster} ({NAMES.get(cluster, cluster)}), "
        reason += "not scored" if score is None else f"score {score:.1f}"
        if sample not in taken:
            reason += "; none of the cluster was chosen: the subset was full"
            if cut is not None:
                reason = f"{reason.split(';')[0]}; the last one chosen has {cut:.1f}"
        elif taken[sample][1]:
            reason += f", refill round {taken[sample][1]}"
        choice = list(taken).index(sample) if sample in taken else None
        rows.append((sample, choice, cluster, score, place, places, cut, reason))
    return sorted(rows, key=lambda row: (row[1] is None, row[1] or 0, row[4], row[2], row[0]))


@given(
    st.dictionaries(
        st.integers(0, 3),
        st.dictionaries(st.sampled_from(SAMPLES), st.sampled_from([None, 2.0, 3.14, 70.0])),
        max_size=4,
    ),
    st.frozensets(st.sampled_from(SAMPLES), max_size=3),
    st.integers(1, 9),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from(["candidates", "members"]),
)
# "b" is chosen at place 2 of the smaller cluster, and has a better place in the larger one.
@example(
    {0: {"a": 70.0, "b": 2.0}, 1: {"b": 70.0, "c": 3.14, "d": 2.0}},
    frozenset(), 3, 2, True, 0, "candidates",
)  # fmt: skip
# "b" is not chosen and has the same place in two clusters, of which the later has its turn first.
@example(
    {0: {"a": 70.0, "b": 2.0, "c": None}, 1: {"d": 70.0, "b": 2.0}},
    frozenset(), 2, 1, False, 0, "candidates",
)  # fmt: skip
# The quota is used up, and the second round and the third each take one of each cluster.
@example(
    {0: dict.fromkeys("abc", 2.0), 1: dict.fromkeys("defg", 3.14)},
    frozenset("a"), 7, 1, True, 1, "candidates",
)  # fmt: skip
@example(
    {0: dict.fromkeys("abc", 2.0), 1: dict.fromkeys("defg", 3.14)},
    frozenset(), 7, 2, False, 0, "members",
)  # fmt: skip
def test_the_choice_is_that_of_the_rule_taken_step_by_step(
    by_cluster, excluded, k, quota, refill, seed, cluster_size
):
    found = chosen(by_cluster, excluded, k=k, quota=quota, refill=refill, seed=seed,
                   cluster_size=cluster_size)  # fmt: skip
    assert found.schema == CONSIDERED
    expected = by_hand(by_cluster, excluded, k, quota, refill, seed, cluster_size)
    # Of samples that were not chosen, equal places in one cluster do not occur.
    assert found.rows() == expected


def test_another_seed_draws_otherwise_among_equals():
    equal = {0: dict.fromkeys(SAMPLES, 50.0)}
    first = {tuple(chosen(equal, k=2, quota=2, seed=seed)["sample_id"][:2]) for seed in range(8)}
    assert len(first) > 4
