"""Drift of all columns together, which no single column need show: for a nightly job, not for
every request.

Data are [n, F] numbers. Columns are standardised with the reference's mean and deviation; a value
that is not finite becomes the reference's mean, so missing values are another test's matter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels import _checks
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.sample_tests import ks_2samp
from kedge_kernels.special import normal_tail

Float64s = NDArray[np.float64]

ROWS_MIN = 8
# Newton's method for a convex function: more steps than this have never been needed.
STEPS_MAX = 50
# Pairs of rows that the width of the MMD's kernel is taken from.
WIDTH_PAIRS = 1000


class Scaling(NamedTuple):
    """Mean and deviation of each column, float64[F]; the deviation of a constant column is 1."""

    means: Float64s
    deviations: Float64s

    @classmethod
    def of(cls, data: Float64s) -> Scaling:
        """From the finite values."""
        known = np.where(np.isfinite(data), data, np.nan)
        present = ~np.isnan(known)
        rows = np.maximum(present.sum(axis=0), 1)
        means = np.where(present, known, 0.0).sum(axis=0) / rows
        squares = np.where(present, known - means, 0.0) ** 2
        deviations = np.sqrt(squares.sum(axis=0) / rows)
        return cls(means, np.where(deviations > 0, deviations, 1.0))

    def apply(self, data: Float64s) -> Float64s:
        """Standardised, with 0 for what is not finite."""
        scaled: Float64s = (data - self.means) / self.deviations
        return np.where(np.isfinite(scaled), scaled, 0.0)


class PcaReference:
    """How well the reference's main directions reconstruct a row; where columns begin to relate
    differently, they do it worse.

    error_held_out: float64[n // 2], sorted, of the half that the directions were not taken from.
    Source: the method of NannyML's data reconstruction drift calculator.
    """

    def __init__(self, scaling: Scaling, directions: Float64s, error_held_out: Float64s) -> None:
        self.scaling = scaling
        self.directions = directions
        self.error_held_out = error_held_out

    @classmethod
    def from_data(cls, data: ArrayLike, explained: float = 0.65, seed: int = 0) -> PcaReference:
        """Directions that explain the share `explained`, in (0, 1), of the variance of a random
        half of the rows. At least 8 rows, else ValueError.
        """
        _checks.probability("explained", explained)
        rows = _rows("data", data)
        order = np.random.default_rng(seed).permutation(len(rows))
        half = len(rows) // 2
        scaling = Scaling.of(rows[order[half:]])
        scaled = scaling.apply(rows[order[half:]])
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        shares = np.cumsum(values[::-1]) / max(values.sum(), np.finfo(float).tiny)
        count = min(int(np.searchsorted(shares, explained)) + 1, len(values))
        reference = cls(scaling, vectors[:, ::-1][:, :count].copy(), np.empty(0))
        reference.error_held_out = np.sort(reference.errors(rows[order[:half]]))
        return reference

    def errors(self, data: ArrayLike) -> Float64s:
        """float64[n], the distance of each row from its reconstruction, in standard deviations."""
        rows = _checks.float64s("data", data, 2)
        if rows.shape[1] != len(self.scaling.means):
            raise ValueError(
                f"data: expected {len(self.scaling.means)} columns, got {list(rows.shape)}"
            )
        scaled = self.scaling.apply(rows)
        rest = scaled - (scaled @ self.directions) @ self.directions.T
        return np.asarray(np.sqrt((rest * rest).sum(axis=1)))


class PcaDrift(NamedTuple):
    """ratio: mean error of the current rows over that of the reference. p_value: of a
    Kolmogorov-Smirnov test of the two sets of errors.
    """

    ratio: float
    p_value: float


def pca_drift(reference: PcaReference, current: ArrayLike) -> PcaDrift:
    """Whether current rows [m, F] are reconstructed as those of the reference that it has not
    learned from. (nan, nan) without rows.
    """
    errors = reference.errors(current)
    if errors.size == 0:
        return PcaDrift(float("nan"), float("nan"))
    base = float(reference.error_held_out.mean())
    ratio = float(errors.mean()) / base if base > 0 else (np.inf if errors.any() else 1.0)
    return PcaDrift(float(ratio), ks_2samp(reference.error_held_out, errors)[1])


class ClassifierDrift(NamedTuple):
    """auc: how well a classifier that has not seen them tells current from reference rows, 0.5 for
    no drift; low, high: its interval at 1 - alpha. p_value: one-sided, of auc > 0.5.
    """

    auc: float
    low: float
    high: float
    p_value: float


def classifier_two_sample(
    reference: ArrayLike,
    current: ArrayLike,
    *,
    alpha: float = 0.05,
    squares: bool = True,
    ridge: float = 1.0,
    seed: int = 0,
) -> ClassifierDrift:
    """Logistic regression on half of both windows, judged on the other half.

    reference [n, F], current [m, F], n and m at least 8. squares: adds the squares of the columns,
    without which a change of spread is invisible. ridge: penalty, half the sum of squares of the
    coefficients. seed: of the split. The p-value is Mann-Whitney's normal one, with ties; the
    interval DeLong's. Sources: Lopez-Paz and Oquab 2017, ICLR; DeLong et al. 1988, Biometrics 44.
    """
    _checks.probability("alpha", alpha)
    if not ridge > 0:
        raise ValueError(f"ridge: expected a number above 0, got {ridge}")
    first, second = _two("reference", reference, "current", current)
    generator = np.random.default_rng(seed)
    parts = []
    for rows in (first, second):
        order = generator.permutation(len(rows))
        parts.append((rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]))
    scaling = Scaling.of(np.concatenate([parts[0][0], parts[1][0]]))
    learn_a, judge_a, learn_b, judge_b = (
        _design(scaling, rows, squares) for pair in parts for rows in pair
    )
    is_current = np.repeat([0.0, 1.0], [len(learn_a), len(learn_b)])
    weights = logistic_fit(np.concatenate([learn_a, learn_b]), is_current, ridge)
    return _judge(judge_a @ weights, judge_b @ weights, alpha)


def logistic_fit(design: Float64s, labels: Float64s, ridge: float) -> Float64s:
    """The coefficients that minimise the log loss plus ridge / 2 times the sum of their squares.

    design: [n, k], its last column, all 1, is not penalised. labels: 0.0 or 1.0, both present.
    """
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 0.0
    weights = np.zeros(design.shape[1])
    share = labels.mean()
    weights[-1] = np.log(share / (1 - share))
    for _ in range(STEPS_MAX):
        chances = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (chances - labels) + penalty * weights
        curve = (design * (chances * (1 - chances))[:, None]).T @ design + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < 1e-10:
            break
    return weights


class MmdDrift(NamedTuple):
    """statistic: unbiased estimate of the squared maximum mean discrepancy, about 0 without drift;
    p_value: one-sided, from its normal limit; width: of the Gaussian kernel, in deviations.
    """

    statistic: float
    p_value: float
    width: float


def mmd_linear(
    reference: ArrayLike, current: ArrayLike, width: float | None = None, seed: int = 0
) -> MmdDrift:
    """Maximum mean discrepancy with a Gaussian kernel exp(-|x - y|^2 / (2 width^2)), O(n F).

    reference [n, F], current [m, F], both at least 8 rows; in random order the first min(n, m) of
    each are used in pairs. width: by default the median distance of 1,000 pairs of the reference,
    all in standard deviations of its columns. Source: Gretton et al. 2012, J. Mach. Learn. Res. 13,
    lemma 14 and corollary 16.
    """
    first, second = _two("reference", reference, "current", current)
    scaling = Scaling.of(first)
    generator = np.random.default_rng(seed)
    first, second = (scaling.apply(generator.permutation(rows)) for rows in (first, second))
    if width is None:
        width = _median_distance(first, generator)
    if not 0 < width < np.inf:
        raise ValueError(f"width: expected a finite number above 0, got {width}")
    terms = np.empty(min(len(first), len(second)) // 2)
    mmd_terms(first, second, float(width), terms)
    statistic = float(terms.mean())
    error = float(terms.std(ddof=1)) / len(terms) ** 0.5
    p_value = float(normal_tail(statistic / error)) if error > 0 else 1.0
    return MmdDrift(statistic, p_value, float(width))


@kernel
def mmd_terms(first: Float64s, second: Float64s, width: float, out: Float64s) -> None:
    """out[i]: h of rows 2i and 2i + 1 of both, [n, F] and [m, F]."""
    scale = -0.5 / (width * width)
    for index in range(out.size):
        i = 2 * index
        j = i + 1
        in_first = in_second = across = back = 0.0
        for feature in range(first.shape[1]):
            in_first += (first[i, feature] - first[j, feature]) ** 2
            in_second += (second[i, feature] - second[j, feature]) ** 2
            across += (first[i, feature] - second[j, feature]) ** 2
            back += (first[j, feature] - second[i, feature]) ** 2
        out[index] = (
            np.exp(scale * in_first)
            + np.exp(scale * in_second)
            - np.exp(scale * across)
            - np.exp(scale * back)
        )


@kernel
def placements(own: Float64s, others: Float64s, out: Float64s) -> None:
    """out[i]: the share of `others` below own[i], ties as a half; both sorted."""
    below = upto = 0
    for index in range(own.size):
        while below < others.size and others[below] < own[index]:
            below += 1
        upto = max(upto, below)
        while upto < others.size and others[upto] == own[index]:
            upto += 1
        out[index] = (below + upto) / (2.0 * others.size)


def _judge(scores_a: Float64s, scores_b: Float64s, alpha: float) -> ClassifierDrift:
    a, b = np.sort(scores_a), np.sort(scores_b)
    share_a, share_b = np.empty(a.size), np.empty(b.size)
    placements(a, b, share_a)
    placements(b, a, share_b)
    auc = float(share_b.mean())
    error = float(np.sqrt(share_a.var(ddof=1) / a.size + share_b.var(ddof=1) / b.size))
    # Mann-Whitney's variance without drift, with its correction for ties.
    total = a.size + b.size
    _, tied = np.unique(np.concatenate([a, b]), return_counts=True)
    ties = float((tied.astype(float) ** 3 - tied).sum()) / (total * (total - 1))
    null = np.sqrt(max(total + 1 - ties, 0.0) / (12 * a.size * b.size))
    p_value = float(normal_tail((auc - 0.5) / null)) if null > 0 else 1.0
    reach = _normal_quantile(alpha / 2) * error
    return ClassifierDrift(auc, max(auc - reach, 0.0), min(auc + reach, 1.0), p_value)


def _normal_quantile(tail: float) -> float:
    low, high = 0.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if normal_tail(middle) > tail else (low, middle)
    return high


def _design(scaling: Scaling, rows: Float64s, squares: bool) -> Float64s:
    scaled = scaling.apply(rows)
    blocks = [scaled, scaled * scaled - 1.0] if squares else [scaled]
    return np.concatenate([*blocks, np.ones((len(rows), 1))], axis=1)


def _median_distance(rows: Float64s, generator: np.random.Generator) -> float:
    pairs = generator.integers(0, len(rows), (WIDTH_PAIRS, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    difference = rows[pairs[:, 0]] - rows[pairs[:, 1]]
    distance = float(np.median(np.sqrt((difference * difference).sum(axis=1))))
    return distance if distance > 0 else 1.0


def _rows(name: str, data: ArrayLike) -> Float64s:
    rows = _checks.float64s(name, data, 2)
    if len(rows) < ROWS_MIN or rows.shape[1] < 1:
        raise ValueError(
            f"{name}: expected at least {ROWS_MIN} rows and 1 column, got {list(rows.shape)}"
        )
    return rows


def _two(name_a: str, a: ArrayLike, name_b: str, b: ArrayLike) -> tuple[Float64s, Float64s]:
    first, second = _rows(name_a, a), _rows(name_b, b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{name_a} and {name_b}: expected the same columns, got {list(first.shape)} and "
            f"{list(second.shape)}"
        )
    return first, second


@warm_up
def _warm() -> None:
    data: Any = np.arange(32.0).reshape(16, 2)
    pca_drift(PcaReference.from_data(data), data)
    classifier_two_sample(data, data)
    mmd_linear(data, data)
