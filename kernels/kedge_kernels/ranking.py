"""How well scores rank: areas under the ROC and the precision-recall curve.

Exact for a batch; for a stream from counts per bin of the score, which merge, with a bound on the
error.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels._checks import same_length, series, truths, whole
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import kernel, warm_up


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties counting half, 0..1; exact.

    labels: bool[n]; scores: f64[n], infinities are allowed, NaN is not. NaN if there is one class
    only. Raises ValueError for others.
    Source: Mann & Whitney 1947, Ann. Math. Statist. 18; Hanley & McNeil 1982, Radiology 143.
    """
    positive, negative = _groups(*_ranked(labels, scores))
    return _auroc(positive, negative)


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: the mean over positives of the precision at their score, 0..1; exact.

    Arguments as of `auroc`; NaN if there is no positive. Raises ValueError for others.
    Source: as scikit-learn's `average_precision_score`: a sum of steps, no interpolation.
    """
    positive, negative = _groups(*_ranked(labels, scores))
    return _auprc(positive, negative)


def _ranked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Both by falling score."""
    hits, values = truths("labels", labels), series("scores", scores)
    same_length("labels and scores", hits, values)
    if np.isnan(values).any():
        raise ValueError("scores: expected numbers, got NaN")
    order = np.argsort(-values)
    return hits[order], values[order]


@kernel
def _groups(hits: NDArray[np.bool_], values: Floats) -> tuple[Floats, Floats]:
    """Positives and negatives of each distinct score, by falling score."""
    positive = np.zeros(values.size)
    negative = np.zeros(values.size)
    group = -1
    for i in range(values.size):
        if i == 0 or values[i] != values[i - 1]:
            group += 1
        if hits[i]:
            positive[group] += 1
        else:
            negative[group] += 1
    return positive[: group + 1], negative[: group + 1]


@kernel
def _auroc(positive: Floats, negative: Floats) -> float:
    """From counts by falling score."""
    above, below, won = 0.0, 0.0, 0.0
    for k in range(positive.size):
        won += negative[k] * (above + 0.5 * positive[k])
        above += positive[k]
        below += negative[k]
    if above == 0.0 or below == 0.0:
        return math.nan
    return won / above / below


@kernel
def _auprc(positive: Floats, negative: Floats) -> float:
    """From counts by falling score."""
    above, below, total = 0.0, 0.0, 0.0
    for k in range(positive.size):
        above += positive[k]
        below += negative[k]
        if positive[k] > 0.0:
            total += positive[k] * (above / (above + below))
    return total / above if above > 0.0 else math.nan


@kernel
def _auprc_bounds(positive: Floats, negative: Floats) -> tuple[float, float]:
    """Least and greatest average precision of any order within the bins."""
    above, below, least, most = 0.0, 0.0, 0.0, 0.0
    for k in range(positive.size):
        p, n = positive[k], negative[k]
        if p > 0.0:
            # All positives first, as one tie: no order gives any of them more.
            most += p * ((above + p) / (above + p + below))
            # All negatives first: the sum over positives is at least its integral, for precision
            # then rises.
            below_all = below + n
            if below_all == 0.0:
                least += p
            else:
                start = above + below_all
                least += max(0.0, p - below_all * math.log1p(p / start))
        above += p
        below += n
    if above == 0.0:
        return math.nan, math.nan
    return least / above, most / above


@kernel
def _count(counts: Floats, hits: NDArray[np.bool_], values: Floats, low: float, high: float) -> int:
    """counts: f64[2, bins], negatives and positives by rising score. Answers how many were NaN."""
    bins = counts.shape[1]
    scale = bins / (high - low)
    skipped = 0
    for i in range(values.size):
        if math.isnan(values[i]):
            skipped += 1
            continue
        place = (values[i] - low) * scale
        # Compared as floats: an infinity is no integer.
        k = 0 if place < 0.0 else bins - 1 if place >= bins else int(place)
        counts[1 if hits[i] else 0, k] += 1
    return skipped


class BinnedRanking:
    """Areas under both curves of a stream, from counts in equal-width bins of the score.

    bins: 2 to 1,000,000; memory is 16 bytes a bin. low, high: scores beyond them fall into the end
    bins. Scores of rare events crowd near 0: give log-odds, with low=-20 and high=20, rather than
    probabilities. How much the bins can have cost is always known: `auroc_error_max`,
    `auprc_bounds`. Raises ValueError for parameters out of range.
    """

    __slots__ = ("_counts", "high", "low", "skipped")

    def __init__(self, bins: int = 4096, low: float = 0.0, high: float = 1.0) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"low, high: expected low < high, got {low}, {high}")
        self.low, self.high = float(low), float(high)
        self._counts: Floats = np.zeros((2, whole("bins", bins, 2, 1_000_000)))
        self.skipped = 0

    def update(self, labels: ArrayLike, scores: ArrayLike) -> None:
        """labels: bool[n]; scores: f64[n], NaN is skipped and counted. Raises ValueError, with
        nothing taken in, for others.
        """
        hits, values = truths("labels", labels), series("scores", scores)
        same_length("labels and scores", hits, values)
        self.skipped += _count(self._counts, hits, values, self.low, self.high)

    def merge(self, other: BinnedRanking) -> None:
        """Takes in all that `other` has seen. Raises ValueError if its bins differ."""
        if (other.low, other.high) != (self.low, self.high) or (
            other._counts.shape != self._counts.shape
        ):
            raise ValueError(f"merge: expected bins as {self!r}, got {other!r}")
        self._counts += other._counts
        self.skipped += other.skipped

    @property
    def count(self) -> int:
        """Pairs taken in."""
        return int(self._counts.sum())

    @property
    def auroc(self) -> float:
        """`auroc` with all scores of a bin tied; NaN if there is one class only."""
        return _auroc(*self._by_falling_score())

    @property
    def auroc_error_max(self) -> float:
        """How far `auroc` can be off that of the scores themselves: half the share of pairs of a
        positive and a negative that share a bin.
        """
        negative, positive = self._counts
        pairs = float(negative.sum() * positive.sum())
        return float(negative @ positive) / 2.0 / pairs if pairs else math.nan

    @property
    def auprc(self) -> float:
        """`auprc` with all scores of a bin tied; NaN if there is no positive."""
        return _auprc(*self._by_falling_score())

    @property
    def auprc_bounds(self) -> tuple[float, float]:
        """Between which the average precision of the scores themselves lies."""
        least, most = _auprc_bounds(*self._by_falling_score())
        return float(least), float(most)

    def _by_falling_score(self) -> tuple[Floats, Floats]:
        negative, positive = self._counts[:, ::-1].copy()
        return positive, negative

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        head = (self.low, self.high, self.skipped)
        return pack("BinnedRanking", np.concatenate([np.array(head), self._counts.ravel()]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        numbers = unpack("BinnedRanking", data)
        counts = numbers[2:]
        if numbers.size % 2 != 1 or not np.all((counts >= 0) & (counts <= 2**53)):
            raise ValueError("state of BinnedRanking: expected counts, got others")
        made = cls((numbers.size - 3) // 2, *numbers[:2].tolist())
        made.skipped = int(numbers[2])
        made._counts[:] = numbers[3:].reshape(2, -1)
        return made

    def __repr__(self) -> str:
        bins = self._counts.shape[1]
        return f"<BinnedRanking {self.count} pairs, {bins} bins of {self.low:g}..{self.high:g}>"


@warm_up
def _warm() -> None:
    auroc([False, True], [0.0, 1.0])
    auprc([False, True], [0.0, 1.0])
    binned = BinnedRanking(2)
    binned.update([True], [0.5])
    assert binned.auprc_bounds == (1.0, 1.0)
