"""The scores' slow, obvious twins: exact fractions where floats are, pairs where ranks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def mean(losses: Sequence[float]) -> float:
    """The mean without any rounding but the last."""
    return float(sum(Fraction(loss) for loss in losses) / len(losses)) if losses else math.nan


def absolute(label: float, prediction: float) -> float:
    return abs(label - prediction)


def square(label: float, prediction: float) -> float:
    return (label - prediction) ** 2


def right(label: float, prediction: float) -> float:
    return float(label == prediction)


def log_loss(label: float, chance: float) -> float:
    kept = min(max(chance, 2**-52), 1 - 2**-52)
    return -math.log(kept if label else 1 - kept)


def pinball(label: float, prediction: float, quantile: float) -> float:
    weight = quantile if label > prediction else 1 - quantile
    return weight * abs(label - prediction)


def auroc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Over all pairs of a positive and a negative."""
    positives = [s for y, s in zip(labels, scores, strict=True) if y]
    negatives = [s for y, s in zip(labels, scores, strict=True) if not y]
    if not positives or not negatives:
        return math.nan
    won = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return won / len(positives) / len(negatives)


def auprc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """The mean over positives of the precision among all that score at least as high."""
    total, positives = 0.0, 0
    for label, score in zip(labels, scores, strict=True):
        if label:
            chosen = [y for y, s in zip(labels, scores, strict=True) if s >= score]
            total += sum(chosen) / len(chosen)
            positives += 1
    return total / positives if positives else math.nan
