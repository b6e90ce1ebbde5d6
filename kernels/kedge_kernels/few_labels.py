"""Quality before the labels are here: estimated from calibrated scores (CBPE), and from scores
together with a few labels (PPI).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from kedge_kernels._checks import same_length, series, within
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels.confidence_sequences import AsymptoticSequence, EmpiricalBernsteinSequence


class Calibrator(Protocol):
    """What makes probabilities of scores: `IsotonicCalibrator`, `PlattCalibrator`."""

    def probabilities(self, scores: ArrayLike) -> Floats:
        """f64[n] in [0, 1]."""

    @property
    def score_range(self) -> tuple[float, float]:
        """Least and greatest score that it was fitted on."""


class ExpectedConfusion(NamedTuple):
    """An expected confusion matrix, in rows; what is divided by 0 is NaN."""

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float

    @property
    def accuracy(self) -> float:
        return _ratio(self.true_positives + self.true_negatives, sum(self))

    @property
    def precision(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        return _ratio(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )


class Cbpe:
    """Performance of a binary classifier without labels, from calibrated probabilities.

    Right when only the inputs have shifted, within the range that the calibrator knows; **blind to
    a changed relation between input and label**: a model that has become wrong looks as good as
    ever. `outside_share` tells how much it had to guess.
    calibrator: fitted on the reference. threshold: a score of at least this is predicted positive.
    Streaming and mergeable.
    Source: confidence-based performance estimation, Bialek et al. 2024, arXiv:2407.08649.
    """

    __slots__ = ("_sums", "calibrator", "threshold")

    def __init__(self, calibrator: Calibrator, threshold: float = 0.5) -> None:
        self.calibrator = calibrator
        self.threshold = float(threshold)
        # Expected confusion matrix, variance of the number of right rows, rows, rows outside.
        self._sums: Floats = np.zeros(7)

    def update(self, scores: ArrayLike) -> None:
        """scores: f64[n] of the model; rows with NaN are skipped."""
        values = series("scores", scores)
        values = values[~np.isnan(values)]
        chances = self.calibrator.probabilities(values)
        positive = values >= self.threshold
        hit, miss = chances[positive], chances[~positive]
        low, high = self.calibrator.score_range
        self._sums += (
            hit.sum(),
            (1.0 - hit).sum(),
            miss.sum(),
            (1.0 - miss).sum(),
            (chances * (1.0 - chances)).sum(),
            values.size,
            ((values < low) | (values > high)).sum(),
        )

    def merge(self, other: Cbpe) -> None:
        """Takes in all that `other`, with the same calibrator and threshold, has seen."""
        self._sums += other._sums

    @property
    def confusion(self) -> ExpectedConfusion:
        """The expected confusion matrix of all rows."""
        return ExpectedConfusion(*self._sums[:4].tolist())

    @property
    def accuracy_sd(self) -> float:
        """Standard deviation of the accuracy about its estimate, were every probability right."""
        return _ratio(math.sqrt(float(self._sums[4])), float(self._sums[5]))

    @property
    def outside_share(self) -> float:
        """Share of rows whose score lies outside of what the calibrator was fitted on."""
        return _ratio(float(self._sums[6]), float(self._sums[5]))

    def to_bytes(self) -> bytes:
        """The sums; the calibrator has its own."""
        return pack("Cbpe", self._sums)

    def load(self, data: bytes) -> None:
        """Replaces the sums by what `to_bytes` wrote. Raises ValueError for anything else."""
        self._sums[:] = unpack("Cbpe", data, 7)


class PpiMean:
    """Mean of labels from many predictions and few labels: mean of predictions plus mean of
    (label - prediction). Unbiased however poor the model is; narrow if it is good.

    The labelled rows must be a random draw of all rows. alpha: chance, in (0, 1), that the interval
    ever misses the mean, half spent on each term. lower, upper: bounds of labels and predictions.
    asymptotic: the narrower interval that holds in the limit only. Raises ValueError for parameters
    out of range.
    Source: Angelopoulos et al. 2023, Science 382, algorithm 1, each term by a confidence sequence.
    """

    __slots__ = ("_corrections", "_predictions", "_sums", "alpha", "asymptotic", "lower", "upper")

    def __init__(
        self, alpha: float, lower: float = 0.0, upper: float = 1.0, asymptotic: bool = False
    ) -> None:
        self.alpha = within("alpha", alpha, 0, 1)
        self.asymptotic = bool(asymptotic)
        half = self.alpha / 2
        if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            raise ValueError(f"lower, upper: expected lower < upper, got {lower}, {upper}")
        self.lower, self.upper = float(lower), float(upper)
        span = self.upper - self.lower
        self._predictions: AsymptoticSequence | EmpiricalBernsteinSequence
        self._corrections: AsymptoticSequence | EmpiricalBernsteinSequence
        if asymptotic:
            self._predictions, self._corrections = (
                AsymptoticSequence(half),
                AsymptoticSequence(half),
            )
        else:
            self._predictions = EmpiricalBernsteinSequence(half, self.lower, self.upper)
            self._corrections = EmpiricalBernsteinSequence(half, -span, span)
        # Sum of predictions, sum of corrections.
        self._sums = [0.0, 0.0]

    def update_unlabelled(self, predictions: ArrayLike) -> None:
        """predictions: f64[n] in [lower, upper]. Raises ValueError for others, none taken in."""
        values = self._bounded("predictions", predictions)
        self._predictions.update(values)
        self._sums[0] += float(values.sum())

    def update_labelled(self, labels: ArrayLike, predictions: ArrayLike) -> None:
        """labels, predictions: f64[n] in [lower, upper]. Raises ValueError as above."""
        truth = self._bounded("labels", labels)
        values = self._bounded("predictions", predictions)
        same_length("labels and predictions", truth, values)
        self._corrections.update(truth - values)
        self._sums[1] += float((truth - values).sum())

    def _bounded(self, thing: str, values: ArrayLike) -> Floats:
        block = series(thing, values)
        wrong = ~((block >= self.lower) & (block <= self.upper))
        if wrong.any():
            raise ValueError(
                f"{thing}: expected numbers in [{self.lower:g}, {self.upper:g}],"
                f" got {block[wrong][0]}"
            )
        return block

    @property
    def estimate(self) -> float:
        """The mean of labels; NaN before there are predictions and labels."""
        predicted = _ratio(self._sums[0], self._predictions.count)
        return predicted + _ratio(self._sums[1], self._corrections.count)

    def interval(self) -> tuple[float, float]:
        """Where the mean of labels is, now; within [lower, upper]."""
        low, high = self._predictions.interval()
        more_low, more_high = self._corrections.interval()
        return max(low + more_low, self.lower), min(high + more_high, self.upper)

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        head = (self.alpha, self.lower, self.upper, self.asymptotic)
        terms = self._predictions.to_bytes() + self._corrections.to_bytes()
        return pack("PpiMean", [*head, *self._sums]) + terms

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        head = len(pack("PpiMean", np.zeros(6)))
        alpha, lower, upper, asymptotic, *sums = unpack("PpiMean", data[:head], 6).tolist()
        made = cls(alpha, lower, upper, asymptotic == 1.0)
        middle = head + (len(data) - head) // 2
        made._predictions = type(made._predictions).from_bytes(data[head:middle])
        made._corrections = type(made._corrections).from_bytes(data[middle:])
        made._sums = sums
        return made


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
