"""Streams of every kind that a detector may meet, from one generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KINDS = ("abrupt", "gradual", "none", "constant", "rare", "floats", "short", "alternating")


def stream(kind: str, rng: np.random.Generator, length: int) -> Floats:
    """Values in [0, 1], f64[n]: of 0 and 1 only, but for "floats", and "gradual" half the time."""
    steps = np.arange(length)
    at = int(rng.integers(1, length))
    low, high = sorted(rng.random(2))
    if kind == "abrupt":
        rates = np.where(steps < at, low, high)
        return _flips(rng, rates if rng.random() < 0.7 else rates[::-1])
    if kind == "gradual":
        rates = low + (high - low) * steps / length
        return _flips(rng, rates) if rng.random() < 0.5 else rates
    if kind == "none":
        return _flips(rng, np.full(length, low))
    if kind == "constant":
        return np.full(length, float(rng.integers(0, 2)))
    if kind == "rare":
        return _flips(rng, np.where(steps < at, 0.005, 0.1))
    if kind == "floats":
        return np.clip(rng.normal(np.where(steps < at, low, high), 0.2), 0.0, 1.0)
    if kind == "short":
        return _flips(rng, np.full(int(rng.integers(1, 40)), high))
    assert kind == "alternating"
    return (steps % int(rng.integers(2, 6)) == 0).astype(np.float64)


def _flips(rng: np.random.Generator, rates: Floats) -> Floats:
    return (rng.random(rates.size) < rates).astype(np.float64)
