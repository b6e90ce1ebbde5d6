"""The slow, obvious twins of evidence, intervals and estimates: the formulas, value by value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

ODDS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 20, 40)


def bad_event_e_value(
    events: Iterable[tuple[bool, float]], margin: float, odds: Sequence[float] = ODDS
) -> float:
    """Mean over the grid of products of likelihood ratios."""
    products = [1.0] * len(odds)
    for candidate, share in events:
        if share in (0, 1):
            continue
        w = share * margin / (share * margin + 1 - share)
        for k, factor in enumerate(odds):
            products[k] *= (factor if candidate else 1) / (w * factor + 1 - w)
    return sum(products) / len(products)


def rate_e_value(bad: Iterable[bool], rate: float) -> float:
    products = [1.0] * len(ODDS)
    for outcome in bad:
        for k, factor in enumerate(ODDS):
            worse = factor * rate / (1 + (factor - 1) * rate)
            products[k] *= worse / rate if outcome else (1 - worse) / (1 - rate)
    return sum(products) / len(products)


def paired_e_value(wins: int, losses: int) -> float:
    rates = [0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    return sum((2 * r) ** wins * (2 * (1 - r)) ** losses for r in rates) / len(rates)


def bernstein_interval(values: Sequence[float], alpha: float) -> tuple[float, float]:
    """Predictable-mixture empirical Bernstein for values in [0, 1], unclipped."""
    means, stakes, costs = [0.5], [], []
    squares = 0.25
    for t, x in enumerate(values, start=1):
        stake = min(math.sqrt(2 * math.log(2 / alpha) / (squares / t * t * math.log(1 + t))), 0.5)
        stakes.append(stake)
        costs.append(4 * (x - means[-1]) ** 2 * (-math.log(1 - stake) - stake) / 4)
        means.append((0.5 + sum(values[:t])) / (t + 1))
        squares += (x - means[-1]) ** 2
    centre = sum(s * x for s, x in zip(stakes, values, strict=True)) / sum(stakes)
    radius = (math.log(2 / alpha) + sum(costs)) / sum(stakes)
    return centre - radius, centre + radius


def asymptotic_interval(values: Sequence[float], alpha: float, rho: float) -> tuple[float, float]:
    t = len(values)
    scaled = t * rho**2
    radius = np.std(values) * math.sqrt(
        2 * (scaled + 1) / (t**2 * rho**2) * math.log(math.sqrt(scaled + 1) / alpha)
    )
    return float(np.mean(values) - radius), float(np.mean(values) + radius)


def confusion(chances: Iterable[float], scores: Iterable[float], threshold: float) -> list[float]:
    """Expected true positives, false positives, false negatives, true negatives."""
    cells = [0.0] * 4
    for chance, score in zip(chances, scores, strict=True):
        first = 0 if score >= threshold else 2
        cells[first] += chance
        cells[first + 1] += 1 - chance
    return cells


def isotonic(scores: Sequence[float], labels: Sequence[float]) -> dict[float, float]:
    """Fitted value of each distinct score: max over left ends of min over right ends of means."""
    distinct = sorted(set(scores))
    groups = [[y for x, y in zip(scores, labels, strict=True) if x == s] for s in distinct]

    def mean(i: int, j: int) -> float:
        joined = [y for group in groups[i : j + 1] for y in group]
        return sum(joined) / len(joined)

    last = len(groups) - 1
    return {
        s: max(min(mean(i, j) for j in range(k, last + 1)) for i in range(k + 1))
        for k, s in enumerate(distinct)
    }
