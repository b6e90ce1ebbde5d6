"""How good predictions are, streaming and mergeable: a mean of losses, and calibration.

A pair with NaN or an infinity in it is skipped and counted: its label has not come yet.
What is not here: rankings (`ranking.py`).
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from kedge_kernels._checks import same_length, series, whole, within
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import kernel, warm_up

COUNT, SUM, LOST, SKIPPED = 0, 1, 2, 3

_RIGHT, _LOG, _SQUARE, _ABSOLUTE, _PINBALL = range(5)
# As scikit-learn: a probability of 0 for what happens costs 36.04 nats, not infinitely much.
_CHANCE_MIN = float(np.finfo(np.float64).eps)


@kernel
def _loss(kind: int, label: float, prediction: float, parameter: float) -> float:
    if kind == _RIGHT:
        return 1.0 if label == prediction else 0.0
    if kind == _SQUARE:
        return (prediction - label) ** 2
    if kind == _ABSOLUTE:
        return abs(prediction - label)
    if kind == _PINBALL:
        short = label - prediction
        return parameter * short if short > 0.0 else (parameter - 1.0) * short
    chance = min(max(prediction, _CHANCE_MIN), 1.0 - _CHANCE_MIN)
    return -math.log(chance) if label == 1.0 else -math.log1p(-chance)


@kernel
def _accumulate(
    sums: Floats, kind: int, labels: Floats, predictions: Floats, parameter: float
) -> None:
    """Adds the losses of all finite pairs. What a sum loses to rounding is kept apart (Neumaier
    1974), so that a million parts add up as one.
    """
    total, lost = sums[SUM], sums[LOST]
    for i in range(labels.size):
        if not (math.isfinite(labels[i]) and math.isfinite(predictions[i])):
            sums[SKIPPED] += 1
            continue
        loss = _loss(kind, labels[i], predictions[i], parameter)
        after = total + loss
        lost += (total - after) + loss if total >= loss else (loss - after) + total
        total = after
        sums[COUNT] += 1
    sums[SUM], sums[LOST] = total, lost


@kernel
def _first_outside(values: Floats, low: float, high: float) -> int:
    """The index of the first number outside of low..high, or -1; NaN and infinities pass."""
    for i in range(values.size):
        if math.isfinite(values[i]) and not low <= values[i] <= high:
            return i
    return -1


@kernel
def _first_fraction(values: Floats) -> int:
    """The index of the first finite number that is neither 0 nor 1, or -1."""
    for i in range(values.size):
        if math.isfinite(values[i]) and values[i] != 0.0 and values[i] != 1.0:
            return i
    return -1


class _MeanLoss:
    """A mean over pairs of label and prediction."""

    name: ClassVar[str]
    _kind: ClassVar[int]
    _of_chances: ClassVar[bool] = False

    __slots__ = ("_parameter", "_sums")

    def __init__(self) -> None:
        self._parameter = 0.0
        self._sums: Floats = np.zeros(4)

    def update(self, labels: ArrayLike, predictions: ArrayLike) -> None:
        """labels, predictions: f64[n]. Raises ValueError, with nothing taken in, for unequal
        lengths, and where probabilities are meant, for labels other than 0 and 1 and predictions
        outside of [0, 1].
        """
        truth, values = label_pairs(labels, predictions, self._of_chances)
        _accumulate(self._sums, self._kind, truth, values, self._parameter)

    def merge(self, other: Self) -> None:
        """Takes in all that `other`, of the same class and parameter, has seen. Raises ValueError
        for another.
        """
        if type(other) is not type(self) or other._parameter != self._parameter:
            raise ValueError(f"merge: expected {self!r}, got {other!r}")
        total, more = float(self._sums[SUM]), float(other._sums[SUM])
        after = total + more
        lost = (total - after) + more if abs(total) >= abs(more) else (more - after) + total
        self._sums += other._sums
        self._sums[SUM] = after
        self._sums[LOST] += lost

    @property
    def value(self) -> float:
        """The mean; NaN before the first pair."""
        return self._sum() / self.count if self.count else math.nan

    @property
    def count(self) -> int:
        """Pairs taken in."""
        return int(self._sums[COUNT])

    @property
    def skipped(self) -> int:
        """Pairs skipped, having NaN or an infinity."""
        return int(self._sums[SKIPPED])

    def _sum(self) -> float:
        total, lost = float(self._sums[SUM]), float(self._sums[LOST])
        # Past the end of float64 nothing is left to correct.
        return total + lost if math.isfinite(lost) else total

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        return pack(self.name, [self._parameter, *self._sums])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        numbers = unpack(cls.name, data, 5)
        made = cls._with(float(numbers[0]))
        counts = numbers[[1 + COUNT, 1 + SKIPPED]]
        if not (np.all(counts >= 0) and np.all(counts <= 2**53)):
            raise ValueError(f"state of {cls.name}: expected counts, got {counts.tolist()}")
        made._sums[:] = numbers[1:]
        return made

    @classmethod
    def _with(cls, parameter: float) -> Self:
        """A new one with this parameter; raises ValueError if there is none such."""
        if parameter != 0.0:
            raise ValueError(f"state of {cls.name}: expected no parameter, got {parameter}")
        return cls()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.value:.6g} of {self.count} pairs>"


class Accuracy(_MeanLoss):
    """Share of predictions that equal the label; classes as numbers."""

    name, _kind = "Accuracy", _RIGHT
    __slots__ = ()


class LogLoss(_MeanLoss):
    """Mean of -log of the probability that was given to what happened, in nats; probabilities are
    kept 2.2e-16 away from 0 and 1. For many classes: label 1 and the true class's probability.
    """

    name, _kind, _of_chances = "LogLoss", _LOG, True
    __slots__ = ()


class Brier(_MeanLoss):
    """Mean squared difference of probability and label.

    Source: Brier 1950, Mon. Weather Rev. 78.
    """

    name, _kind, _of_chances = "Brier", _SQUARE, True
    __slots__ = ()


class MeanAbsoluteError(_MeanLoss):
    """Mean absolute difference, in units of the label."""

    name, _kind = "MAE", _ABSOLUTE
    __slots__ = ()


class RootMeanSquaredError(_MeanLoss):
    """Root of the mean squared difference, in units of the label."""

    name, _kind = "RMSE", _SQUARE
    __slots__ = ()

    @property
    def value(self) -> float:
        """The root; NaN before the first pair."""
        return math.sqrt(self._sum() / self.count) if self.count else math.nan


class Pinball(_MeanLoss):
    """Mean pinball loss of predicted quantiles, in units of the label. quantile: in (0, 1); raises
    ValueError for others. Source: Koenker & Bassett 1978, Econometrica 46.
    """

    name, _kind = "Pinball", _PINBALL
    __slots__ = ()

    def __init__(self, quantile: float = 0.5) -> None:
        super().__init__()
        self._parameter = within("quantile", quantile, 0, 1)

    @classmethod
    def _with(cls, parameter: float) -> Self:
        return cls(parameter)


@kernel
def _bin_chances(sums: Floats, edges: Floats, labels: Floats, chances: Floats) -> int:
    """sums: f64[3, bins], rows, labels, probabilities; bins closed on the right. Answers how many
    pairs were skipped.
    """
    bins = sums.shape[1]
    skipped = 0
    for i in range(labels.size):
        chance = chances[i]
        if not (math.isfinite(labels[i]) and math.isfinite(chance)):
            skipped += 1
            continue
        k = min(int(chance * bins), bins - 1)
        # The product rounds: what lies on an edge is decided by the edge itself.
        while k > 0 and chance <= edges[k]:
            k -= 1
        while k < bins - 1 and chance > edges[k + 1]:
            k += 1
        sums[0, k] += 1
        sums[1, k] += labels[i]
        sums[2, k] += chance
    return skipped


class CalibrationError:
    """Expected calibration error: mean over rows of |share of positives - mean probability| of the
    row's bin. bins: equal-width, 1 to 10,000; raises ValueError for others.

    It depends on the bins, and is about 0.8 sqrt(bins p (1 - p) / rows) for a perfect model.
    Source: Naeini, Cooper & Hauskrecht 2015, AAAI.
    """

    __slots__ = ("_edges", "_sums", "skipped")

    def __init__(self, bins: int = 15) -> None:
        count = whole("bins", bins, 1, 10_000)
        self._edges: Floats = np.linspace(0.0, 1.0, count + 1)
        self._sums: Floats = np.zeros((3, count))
        self.skipped = 0

    def update(self, labels: ArrayLike, probabilities: ArrayLike) -> None:
        """labels: f64[n], 0 or 1; probabilities: f64[n] in [0, 1]. Raises ValueError for others."""
        truth, chances = label_pairs(labels, probabilities, True)
        self.skipped += _bin_chances(self._sums, self._edges, truth, chances)

    def merge(self, other: CalibrationError) -> None:
        """Takes in all that `other` has seen. Raises ValueError for other bins."""
        if other._sums.shape != self._sums.shape:
            raise ValueError(f"merge: expected {self._sums.shape[1]} bins, got others")
        self._sums += other._sums
        self.skipped += other.skipped

    @property
    def count(self) -> int:
        """Pairs taken in."""
        return int(self._sums[0].sum())

    @property
    def value(self) -> float:
        """The expected calibration error, 0..1; NaN before the first pair."""
        return float(np.abs(self._sums[1] - self._sums[2]).sum()) / (self.count or math.nan)

    @property
    def maximum(self) -> float:
        """The greatest error of a bin, 0..1; NaN before the first pair."""
        rows, positives, chances = self._sums[:, self._sums[0] > 0]
        return float((np.abs(positives - chances) / rows).max()) if rows.size else math.nan

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        return pack("Calibration", [self.skipped, *self._sums.ravel()])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        numbers = unpack("Calibration", data)
        if numbers.size % 3 != 1 or not np.all((numbers >= 0) & (numbers <= 2**53)):
            raise ValueError("state of Calibration: expected sums of at least 0, got others")
        made = cls(numbers.size // 3)
        made.skipped = int(numbers[0])
        made._sums[:] = numbers[1:].reshape(3, -1)
        return made


def label_pairs(
    labels: ArrayLike, predictions: ArrayLike, of_chances: bool
) -> tuple[Floats, Floats]:
    """Both as f64[n], checked; of_chances: labels must be 0 or 1, predictions in [0, 1]."""
    truth, values = series("labels", labels), series("predictions", predictions)
    same_length("labels and predictions", truth, values)
    if of_chances:
        i = _first_fraction(truth)
        if i >= 0:
            raise ValueError(f"labels: expected 0 or 1, got {truth[i]} at {i}")
        i = _first_outside(values, 0.0, 1.0)
        if i >= 0:
            raise ValueError(f"predictions: expected numbers in [0, 1], got {values[i]} at {i}")
    return truth, values


@warm_up
def _warm() -> None:
    Brier().update([1.0], [0.5])
    CalibrationError().update([1.0], [0.5])
