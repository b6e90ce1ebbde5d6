"""From scores to probabilities, fitted once on labelled reference data."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from kedge_kernels._checks import same_length, series, truths
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import kernel, warm_up


@kernel
def _pool_adjacent(means: Floats, weights: Floats) -> None:
    """Replaces means by the non-decreasing sequence that is nearest in weighted squares."""
    starts = np.empty(means.size, dtype=np.int64)
    blocks = 0
    for i in range(means.size):
        mean, weight, start = means[i], weights[i], i
        while blocks > 0 and means[starts[blocks - 1]] >= mean:
            before = starts[blocks - 1]
            total = weights[before] + weight
            mean = (means[before] * weights[before] + mean * weight) / total
            weight = total
            start = before
            blocks -= 1
        means[start] = mean
        weights[start] = weight
        starts[blocks] = start
        blocks += 1
    for block in range(blocks):
        end = starts[block + 1] if block + 1 < blocks else means.size
        means[starts[block] : end] = means[starts[block]]


class IsotonicCalibrator:
    """Probability as any non-decreasing function of the score: needs about 1,000 labels or more.

    Between the scores of the reference it is a straight line, beyond them constant.
    Source: Zadrozny & Elkan 2002, KDD; pool adjacent violators, Ayer et al. 1955.
    """

    __slots__ = ("_chances", "_scores")

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """scores: f64[n], finite, n >= 1; labels: bool[n]. Raises ValueError for others."""
        values, hits = _reference(scores, labels)
        unique, place = np.unique(values, return_inverse=True)
        weights = np.bincount(place).astype(np.float64)
        means = np.bincount(place, weights=hits) / weights
        _pool_adjacent(means, weights)
        # Within a level only its ends matter to a straight line.
        ends = np.ones(means.size, dtype=bool)
        ends[1:-1] = (means[1:-1] != means[:-2]) | (means[1:-1] != means[2:])
        self._scores: Floats = unique[ends]
        self._chances: Floats = np.clip(means[ends], 0.0, 1.0)

    def probabilities(self, scores: ArrayLike) -> Floats:
        """f64[n] in [0, 1] for scores f64[n]; NaN stays NaN."""
        chances: Floats = np.interp(series("scores", scores), self._scores, self._chances)
        return chances

    @property
    def score_range(self) -> tuple[float, float]:
        """Least and greatest score of the reference: outside of it there is no evidence."""
        return float(self._scores[0]), float(self._scores[-1])

    def to_bytes(self) -> bytes:
        """The fitted function."""
        return pack("Isotonic", np.concatenate([self._scores, self._chances]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        numbers = unpack("Isotonic", data)
        half = numbers.size // 2
        scores, chances = numbers[:half], numbers[half:]
        if half == 0 or numbers.size % 2 or not np.isfinite(numbers).all():
            raise ValueError(f"state of Isotonic: expected pairs, got {numbers.size} numbers")
        if np.any(np.diff(scores) <= 0) or np.any((chances < 0) | (chances > 1)):
            raise ValueError("state of Isotonic: expected rising scores and probabilities")
        made = cls.__new__(cls)
        made._scores, made._chances = scores, chances
        return made


class PlattCalibrator:
    """Probability as a sigmoid of the score: two numbers, from as few as 100 labels.

    Source: Platt 1999, with the smoothed targets and the Newton steps of Lin, Lin & Weng 2007,
    Mach. Learn. 68(3).
    """

    __slots__ = ("_range", "offset", "slope")

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """scores: f64[n], finite, n >= 1; labels: bool[n]. Raises ValueError for others."""
        values, hits = _reference(scores, labels)
        self._range = (float(values.min()), float(values.max()))
        # Centred and scaled, so that scores of 1e9 and of 1e-9 fit alike.
        centre, scale = float(values.mean()), float(values.std()) or 1.0
        slope, offset = _fit_sigmoid((values - centre) / scale, hits)
        self.slope = slope / scale
        self.offset = offset - self.slope * centre

    def probabilities(self, scores: ArrayLike) -> Floats:
        """f64[n] in [0, 1] for scores f64[n]; NaN stays NaN."""
        return _sigmoid(self.slope * series("scores", scores) + self.offset)

    @property
    def score_range(self) -> tuple[float, float]:
        """Least and greatest score of the reference: outside of it there is no evidence."""
        return self._range

    def to_bytes(self) -> bytes:
        """The fitted function."""
        return pack("Platt", [self.slope, self.offset, *self._range])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        slope, offset, low, high = unpack("Platt", data, 4).tolist()
        if not (math.isfinite(slope) and math.isfinite(offset) and low <= high):
            raise ValueError("state of Platt: expected finite numbers, got others")
        made = cls.__new__(cls)
        made.slope, made.offset, made._range = slope, offset, (low, high)
        return made


def _reference(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    values, hits = series("scores", scores), truths("labels", labels)
    same_length("scores and labels", values, hits)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"scores: expected one or more finite numbers, got {values}")
    return values, hits.astype(np.float64)


def _sigmoid(x: Floats) -> Floats:
    # Never the exponential of a large positive number.
    small = np.exp(-np.abs(x))
    chances: Floats = np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))
    return chances


def _fit_sigmoid(x: Floats, hits: Floats) -> tuple[float, float]:
    """Slope and offset of the maximum of the likelihood of smoothed targets; Newton's method with
    halved steps, which a convex function makes end.
    """
    positives = float(hits.sum())
    negatives = hits.size - positives
    high, low = (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0)
    targets = np.where(hits > 0, high, low)

    def loss(slope: float, offset: float) -> float:
        z = slope * x + offset
        return float((np.logaddexp(0.0, z) - targets * z).sum())

    slope, offset = 0.0, math.log((positives + 1.0) / (negatives + 1.0))
    now = loss(slope, offset)
    for _ in range(100):
        chances = _sigmoid(slope * x + offset)
        miss, curve = chances - targets, chances * (1.0 - chances)
        down_slope, down_offset = float(miss @ x), float(miss.sum())
        if abs(down_slope) + abs(down_offset) < 1e-10 * hits.size:
            break
        # A ridge of 1e-12 keeps the matrix regular where all scores are equal.
        a, b, c = float(curve @ (x * x)) + 1e-12, float(curve @ x), float(curve.sum()) + 1e-12
        det = a * c - b * b
        step_slope = (c * down_slope - b * down_offset) / det
        step_offset = (a * down_offset - b * down_slope) / det
        size = 1.0
        while size > 1e-10:
            after = loss(slope - size * step_slope, offset - size * step_offset)
            if after <= now:
                break
            size /= 2.0
        slope, offset, now = slope - size * step_slope, offset - size * step_offset, after
    return slope, offset


@warm_up
def _warm() -> None:
    IsotonicCalibrator([0.0, 1.0], [False, True])
