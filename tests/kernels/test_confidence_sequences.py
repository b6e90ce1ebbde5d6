"""Confidence sequences: their formulas, and that they cover at all times at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge_kernels._frames import pack
from kedge_kernels.confidence_sequences import AsymptoticSequence, EmpiricalBernsteinSequence
from support import reference_evidence as reference
from support.seeds import generator

RUNS = 10 if numba.config.DISABLE_JIT else 300
STEPS = 60 if numba.config.DISABLE_JIT else 600
ALPHA = 0.1
MISSES_MAX = RUNS * ALPHA + 5 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))

Sequence = AsymptoticSequence | EmpiricalBernsteinSequence


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    alpha=st.floats(0.001, 0.9),
    scale=st.floats(0.01, 1e6),
    shift=st.floats(-1e3, 1e3),
)
def test_bernsteins_interval_is_the_formulas(
    values: list[float], alpha: float, scale: float, shift: float
) -> None:
    low, high = reference.bernstein_interval(values, alpha)
    plain = EmpiricalBernsteinSequence(alpha)
    plain.update(values)
    assert np.allclose(plain.interval(), (max(low, 0), min(high, 1)), rtol=1e-9, atol=1e-9)
    wide = EmpiricalBernsteinSequence(alpha, shift, shift + scale)
    bounded = np.clip(shift + scale * np.array(values), shift, shift + scale)
    wide.update(bounded)
    expected = shift + scale * np.array(plain.interval())
    assert np.allclose(wide.interval(), expected, rtol=1e-6, atol=1e-6 * scale)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=60))
def test_the_asymptotic_interval_is_the_formulas(values: list[float]) -> None:
    sequence = AsymptoticSequence(0.05, count_tight=100, count_min=5)
    sequence.update(values[:3])
    sequence.update(values[3:])
    expected = reference.asymptotic_interval(values, 0.05, sequence.rho)
    assert np.allclose(sequence.interval(), expected, rtol=1e-6, atol=1e-6)
    assert math.isclose(sequence.mean, np.mean(values), rel_tol=1e-9, abs_tol=1e-9)


def misses(make: Callable[[], Sequence], draw: Callable[[], Any], mean: float) -> int:
    """In how many runs the interval misses the mean at any step."""
    missed = 0
    for _ in range(RUNS):
        sequence = make()
        for x in draw():
            sequence.update(x)
            low, high = sequence.interval()
            if not low <= mean <= high:
                missed += 1
                break
    return missed


@pytest.mark.parametrize("kind", ["coins", "rare", "skewed", "dependent"])
def test_bernsteins_interval_covers_at_all_times_at_once(kind: str) -> None:
    rng = generator(f"bernstein {kind}")

    def draw() -> Any:
        if kind == "coins":
            return (rng.random(STEPS) < 0.5).astype(float)
        if kind == "rare":
            return (rng.random(STEPS) < 0.02).astype(float)
        if kind == "skewed":
            return rng.beta(0.3, 2.7, STEPS)
        # The spread, not the mean, depends on what came before.
        flips = rng.random(STEPS) < 0.5
        spread = np.where(np.roll(flips, 1), 0.4, 0.05)
        return np.where(flips, 0.5 + spread, 0.5 - spread)

    mean = {"coins": 0.5, "rare": 0.02, "skewed": 0.1, "dependent": 0.5}[kind]
    assert misses(lambda: EmpiricalBernsteinSequence(ALPHA), draw, mean) <= MISSES_MAX


@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_the_asymptotic_interval_covers_at_all_times_from_its_first(kind: str) -> None:
    rng = generator(f"asymptotic {kind}")

    def draw() -> Any:
        return rng.normal(3, 2, STEPS) if kind == "normal" else rng.exponential(3, STEPS)

    found = misses(lambda: AsymptoticSequence(ALPHA, count_tight=300), draw, 3.0)
    assert found <= MISSES_MAX


def test_intervals_narrow_as_values_come_and_where_they_vary_little() -> None:
    rng = generator("width")
    widths = []
    for spread in (0.5, 0.05):
        sequence = EmpiricalBernsteinSequence(0.05)
        for _ in range(3):
            sequence.update(rng.uniform(0.5 - spread, 0.5 + spread, 1000))
            low, high = sequence.interval()
            widths.append(high - low)
    assert widths[0] > widths[1] > widths[2] > widths[3]
    assert widths[5] < 0.02
    sequence = AsymptoticSequence(0.05)
    sequence.update(rng.normal(0, 1, 1000))
    low, high = sequence.interval()
    # A fixed-time interval has 0.124; looking at all times costs less than twice.
    assert 0.124 < high - low < 0.25


def test_without_values_the_mean_may_be_anywhere() -> None:
    assert EmpiricalBernsteinSequence(0.1, -2, 3).interval() == (-2, 3)
    sequence = AsymptoticSequence(0.1)
    assert sequence.interval() == (-math.inf, math.inf)
    sequence.update([])
    assert math.isnan(sequence.mean)


def test_equal_values_give_an_interval_of_no_width_in_the_limit_and_a_sound_one_before() -> None:
    sequence = AsymptoticSequence(0.1)
    sequence.update(np.full(100, 5.0))
    assert sequence.interval() == (5.0, 5.0)
    bounded = EmpiricalBernsteinSequence(0.1)
    bounded.update(np.full(100, 1.0))
    low, high = bounded.interval()
    assert 0.8 < low < 1.0 == high


@pytest.mark.parametrize(
    "sequence", [EmpiricalBernsteinSequence(0.1, -1, 2, 0.7), AsymptoticSequence(0.1, 500, 20)]
)
def test_a_sequence_from_its_bytes_goes_on(sequence: Sequence) -> None:
    rng = generator("sequence bytes")
    sequence.update(rng.random(100))
    again = type(sequence).from_bytes(sequence.to_bytes())
    assert again.interval() == sequence.interval()
    more = rng.random(30)
    sequence.update(more)
    again.update(more)
    assert again.to_bytes() == sequence.to_bytes()
    for wrong in (b"", sequence.to_bytes()[:-1], bytes(300)):
        with pytest.raises(ValueError, match="state of"):
            type(sequence).from_bytes(wrong)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("BernsteinSeq", [0.1, 0, 1, 0.5, math.nan, 0, 0, 0, 0, 0]),
        ("BernsteinSeq", [0.1, 1, 0, 0.5, 0, 0, 0, 0, 0, 0]),
        ("BernsteinSeq", [0.1, 0, 1, 0.5, -1, 0, 0, 0, 0, 0]),
        ("AsymptoticSeq", [0.1, math.inf, 5, 0, 0, 0]),
        ("AsymptoticSeq", [0.1, 100, 5, math.nan, 0, 0]),
        ("AsymptoticSeq", [0.1, 100, 5, 3, 0, -1]),
    ],
)
def test_forged_sequences_are_refused(name: str, numbers: list[float]) -> None:
    kind = EmpiricalBernsteinSequence if name == "BernsteinSeq" else AsymptoticSequence
    with pytest.raises(ValueError, match="expected"):
        kind.from_bytes(pack(name, numbers))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EmpiricalBernsteinSequence(1.0), "alpha: expected"),
        (lambda: EmpiricalBernsteinSequence(0.1, 1, 1), "lower, upper: expected lower < upper"),
        (lambda: EmpiricalBernsteinSequence(0.1, 0, math.inf), "lower, upper: expected"),
        (lambda: EmpiricalBernsteinSequence(0.1, stake_max=1.0), "stake_max: expected"),
        (lambda: EmpiricalBernsteinSequence(0.1).update([0.5, 1.1]), "values: expected .* got 1.1"),
        (lambda: EmpiricalBernsteinSequence(0.1).update([math.nan]), "values: expected .* got nan"),
        (lambda: AsymptoticSequence(0.0), "alpha: expected"),
        (lambda: AsymptoticSequence(0.1, count_min=1), "count_min: expected"),
        (lambda: AsymptoticSequence(0.1).update([math.inf]), "values: expected finite numbers"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
