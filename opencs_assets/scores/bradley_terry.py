"""Bradley-Terry: strengths of samples from comparisons, and what being shown first is worth.

The sample shown first does better with probability ``1 / (1 + exp(-(a - b + position)))``, where
``a`` and ``b`` are the strengths of the first and the second (Bradley and Terry 1952; the position
as in Davidson and Beaver 1977). Outcomes are shares in [0, 1], so a narrow lead counts less than a
wide one. All comparisons of a dataset are fitted at once: clusters share nothing but the position
and how noisy the scorer is.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg.lapack import dtrtri
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOLERANCE, ROUGH_TOLERANCE = 1e-9, 1e-5
ROUNDING = 1e-12
NEWTON_STEPS = 50
# Strengths are estimated with prior and noise held, then prior and noise with the strengths held:
# at most ROUNDS times, until neither prior nor noise moves by more than SETTLED.
ROUNDS = 12
SETTLED = 0.01
FIRST_SPREAD, FIRST_NOISE = 1.0, 0.25
# Spread of the prior of the position's effect, in log-odds. It is wide; without it, a scorer that
# always prefers the first would make the effect infinite.
POSITION_SPREAD = 3.0
LEAST_NOISE = 1e-4
# Where a few comparisons never contradict each other, the likeliest spread is infinite.
LEAST_SPREAD, MOST_SPREAD = 1e-3, 5.0
# The variances of up to DENSE samples that comparisons connect come from the inverse itself, those
# of more from PROBES random probes. While prior and noise are estimated, only the mean of the
# variances is needed; above FEW samples, ROUGH_PROBES probes give it well enough.
DENSE, PROBES = 2_000, 64
LARGE_BLOCK = 100
FEW, ROUGH_PROBES = 1_000, 4
LEAST_SETTLED = 1e-3
PROBE_TOLERANCE, PROBE_STEPS = 1e-3, 200
# Relative error to which a step of Newton's method solves its system; the next step mends the rest.
STEP_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Comparisons:
    """Comparisons as numbers.

    Attributes:
        first: Number of the sample shown first, int64 (m,).
        second: Number of the sample shown second, int64 (m,).
        share: How far the first did better, float64 (m,) in [0, 1]; 0.5 means that both are equal.
        samples: How many samples there are, n; a sample without a comparison keeps the prior.
    """

    first: Ints
    second: Ints
    share: Floats
    samples: int


@dataclass(frozen=True)
class Fit:
    """Strengths that were fitted to comparisons.

    Attributes:
        strengths: Strength of each sample, float64 (n,), in log-odds; 0 is the mean of the prior.
        deviations: Standard deviation of each strength, float64 (n,), given the comparisons.
        position: What being shown first is worth, in log-odds.
        spread: Standard deviation of the strengths before any comparison.
        noise: Variance of the outcomes, as a multiple of a coin's with the same probability.
    """

    strengths: Floats
    deviations: Floats
    position: float
    spread: float
    noise: float


def fit(compared: Comparisons, *, deviations: bool = True) -> Fit:
    """Fit strengths, position, their spread and the scorer's noise.

    The spread of the strengths and the noise are estimated from the data (empirical Bayes), so
    that deviations hold where there are few comparisons, and where the next pair was chosen by
    what was known: given prior and noise, how the comparisons came about does not matter. Without
    ``deviations``, each deviation is that of the prior, which costs less.
    """
    spread, noise = FIRST_SPREAD, FIRST_NOISE
    strengths, position = np.zeros(compared.samples), 0.0
    if not len(compared.share):
        return Fit(strengths, np.full(compared.samples, spread), position, spread, noise)
    met = np.zeros(compared.samples, bool)
    met[compared.first] = met[compared.second] = True
    rough = {} if compared.samples <= FEW else {"dense": 0, "probes": ROUGH_PROBES}
    for _ in range(ROUNDS):
        ridge = noise / spread**2
        strengths, position = maximize(
            compared, ridge, noise / POSITION_SPREAD**2, strengths, position, ROUGH_TOLERANCE
        )
        chance = expit(strengths[compared.first] - strengths[compared.second] + position)
        # A weight that rounds to zero must not be divided by.
        weight = np.maximum(chance * (1 - chance), 1e-12)
        variances = noise * inverse_diagonal(compared, weight, ridge, **rough)
        # The number of strengths that the comparisons determine, and not the prior (MacKay 1992).
        settled = float((1 - variances[met] / spread**2).sum())
        left = max(len(chance) - settled - 1, 1.0)
        noise_now = float(((compared.share - chance) ** 2 / weight).sum() / left)
        spread_now = float(np.sqrt((strengths**2).sum() / max(settled, LEAST_SETTLED)))
        noise_now = max(noise_now, LEAST_NOISE)
        spread_now = min(max(spread_now, LEAST_SPREAD), MOST_SPREAD)
        moved = abs(np.log(noise_now / noise)) + abs(np.log(spread_now / spread))
        noise, spread = noise_now, spread_now
        if moved < SETTLED:
            break
    variances = np.full(compared.samples, spread**2)
    if deviations:
        known = noise * inverse_diagonal(compared, weight, noise / spread**2)
        variances[met] = known[met]
    return Fit(strengths, np.sqrt(variances), position, spread, noise)


def maximize(
    compared: Comparisons,
    ridge: float,
    position_ridge: float,
    strengths: Floats,
    position: float,
    tolerance: float = TOLERANCE,
) -> tuple[Floats, float]:
    """The strengths and the position that make the outcomes likeliest.

    Newton's method on the penalized log-likelihood
    ``sum(y log p + (1 - y) log(1 - p)) - ridge / 2 * sum(strengths ** 2)
    - position_ridge / 2 * position ** 2``.

    Args:
        compared: The comparisons.
        ridge: Weight of the strengths' prior; it is positive, so that samples that were never
            compared, or always won, keep finite strengths.
        position_ridge: Weight of the position's prior; it is positive for the same reason.
        strengths: Strengths to begin with, float64 (n,).
        position: Position to begin with.
        tolerance: The search ends when no value moves by more.
    """
    design, share = _design(compared), compared.share
    absolute = abs(design)
    penalty = np.append(np.full(compared.samples, ridge), position_ridge)

    def objective(values: Floats) -> float:
        odds = design @ values
        # All terms have one sign, so that rounding is small beside the sum: where all is nearly
        # certain, the difference of large sums would hide whether a step rises.
        surprise = share @ np.maximum(-odds, 0) + (1 - share) @ np.maximum(odds, 0)
        unsure = np.log1p(np.exp(-abs(odds))).sum()
        return -float(surprise + unsure + penalty @ values**2 / 2)

    values = np.append(strengths, position)
    reached = objective(values)
    for _ in range(NEWTON_STEPS):
        chance = expit(design @ values)
        slope = design.T @ (share - chance) - penalty * values
        weight = chance * (1 - chance)
        curvature = absolute.T @ weight + penalty
        step = _newton_step(design, weight, penalty, slope, curvature)
        size = 1.0
        # Near the maximum, a rise is smaller than its rounding error.
        least = reached - ROUNDING * abs(reached)
        while (risen := objective(values + size * step)) < least and size > 1e-6:
            size /= 2
        values = values + size * step
        reached = risen
        if np.abs(step).max() * size < tolerance:
            break
    return values[:-1], float(values[-1])


def _design(compared: Comparisons) -> sparse.csr_array:
    """One row a comparison: 1 at the first, -1 at the second, 1 at the position; (m, n + 1)."""
    count = len(compared.share)
    columns = np.column_stack(
        [compared.first, compared.second, np.full(count, compared.samples, np.int64)]
    )
    return sparse.csr_array(
        (np.tile([1.0, -1.0, 1.0], count), columns.ravel(), 3 * np.arange(count + 1)),
        shape=(count, compared.samples + 1),
    )


def _newton_step(
    design: sparse.csr_array, weight: Floats, penalty: Floats, slope: Floats, curvature: Floats
) -> Floats:
    size = len(penalty)
    scale = 1 / curvature
    step, _ = cg(
        LinearOperator(
            (size, size),
            matvec=lambda vector: design.T @ (weight * (design @ vector)) + penalty * vector,
            dtype=np.float64,
        ),
        slope,
        rtol=STEP_TOLERANCE,
        maxiter=2_000,
        M=LinearOperator((size, size), matvec=lambda vector: scale * vector, dtype=np.float64),
    )
    return np.asarray(step)


def inverse_diagonal(
    compared: Comparisons,
    weight: Floats,
    ridge: float,
    *,
    dense: int = DENSE,
    probes: int = PROBES,
) -> Floats:
    """Diagonal of the inverse of the penalized information of the strengths, float64 (n,).

    The position is taken as known, because all comparisons share it. The diagonal is exact for
    groups of up to ``dense`` samples that comparisons connect, and estimated by ``probes`` random
    probes for larger ones; ``weight`` is the information of each comparison, float64 (m,), and
    ``ridge`` the weight of the prior.
    """
    samples = compared.samples
    met = np.bincount(compared.first, weight, samples) + np.bincount(
        compared.second, weight, samples
    )
    laplacian = _laplacian(compared, weight, np.asarray(met + ridge, np.float64))
    _, parts = connected_components(laplacian, directed=False)
    order = np.argsort(parts, kind="stable")
    sizes = np.bincount(parts)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    inverse = np.empty(samples)
    for size in np.unique(sizes[sizes <= dense]):
        same_size = np.flatnonzero(sizes == size)
        members = order[starts[same_size][:, None] + np.arange(size)]
        for chunk in np.array_split(members, -(-members.size * size // 10_000_000)):
            inverse[chunk] = _of_inverses(_blocks(laplacian, chunk))
    if large := np.flatnonzero((sizes > dense)[parts]).tolist():
        inverse[large] = _probed(laplacian[large][:, large], probes)
    return inverse


def _of_inverses(blocks: Floats) -> Floats:
    """Diagonals (p, s) of the inverses of positive definite blocks (p, s, s)."""
    if blocks.shape[1] < LARGE_BLOCK:
        return np.asarray(np.diagonal(np.linalg.inv(blocks), axis1=1, axis2=2))
    # The inverse of L, where L L' is the block, takes a third of the work of inverting the block.
    roots = [dtrtri(np.linalg.cholesky(block), lower=1)[0] for block in blocks]
    return np.asarray([np.einsum("ij,ij->j", root, root) for root in roots])


def _blocks(matrix: sparse.csr_array, members: Ints) -> Floats:
    """The dense blocks (p, s, s) of samples (p, s) that have no entries outside their blocks."""
    count, size = members.shape
    block, place = np.empty(matrix.shape[0], np.int64), np.empty(matrix.shape[0], np.int64)
    block[members] = np.arange(count)[:, None]
    place[members] = np.arange(size)
    rows = matrix[members.ravel()].tocoo()
    columns = rows.coords[1]
    blocks = np.zeros((count, size, size))
    blocks[rows.coords[0] // size, rows.coords[0] % size, place[columns]] = rows.data
    return blocks


def _probed(matrix: sparse.csr_array, probes: int) -> Floats:
    """Diagonal of the inverse by random probes (Hutchinson), each a linear system."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (matrix.shape[0], probes))
    scale = 1 / matrix.diagonal()
    estimate = (signs * _solved(matrix, signs, scale)).mean(axis=1)
    # A diagonal entry's inverse is the variance if all other strengths were known: a lower bound.
    return np.asarray(np.maximum(estimate, scale), np.float64)


def _solved(matrix: sparse.csr_array, targets: Floats, scale: Floats) -> Floats:
    """Solve the systems of all targets (n, p) at once by preconditioned conjugate gradients."""
    solutions = np.zeros_like(targets)
    left = targets.copy()
    scaled = scale[:, None] * left
    step = scaled
    size = np.einsum("ij,ij->j", left, scaled)
    enough = PROBE_TOLERANCE**2 * size
    for _ in range(PROBE_STEPS):
        moved = matrix @ step
        length = size / np.einsum("ij,ij->j", step, moved)
        solutions += length * step
        left -= length * moved
        scaled = scale[:, None] * left
        before, size = size, np.einsum("ij,ij->j", left, scaled)
        if (size <= enough).all():
            break
        step = scaled + size / before * step
    return solutions


def _laplacian(compared: Comparisons, weight: Floats, diagonal: Floats) -> sparse.csr_array:
    first, second, every = compared.first, compared.second, np.arange(compared.samples)
    values = np.concatenate([diagonal, -weight, -weight])
    places = np.concatenate([every, first, second]), np.concatenate([every, second, first])
    size = (compared.samples, compared.samples)
    return sparse.coo_array((values, places), shape=size).tocsr()
