"""e-CUSUM and e-SR: their definition, their promise on the run length, their delay."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from scipy.stats import beta, binom

from kedge_kernels.e_detectors import ECusum, ESr, mean_upper_bound
from support import reference_detectors as reference
from support.seeds import generator

Made = type[ECusum] | type[ESr]
both = pytest.mark.parametrize("make", [ECusum, ESr])
RUNS = 20 if numba.config.DISABLE_JIT else 400


@both
@pytest.mark.parametrize("binary", [True, False])
def test_alarms_are_where_the_definition_has_them(make: Made, binary: bool) -> None:
    rng = generator("definition")
    worse = [0.15, 0.3, 0.6]
    for _ in range(6):
        values = rng.random(150) ** 3 + np.repeat([0.0, 0.2], 75)
        values = (values > 0.5).astype(np.float64) if binary else np.clip(values, 0, 1)
        expected = reference.positions(
            lambda: reference.e_detector(0.1, 25.0, worse, make is ESr), values.tolist()
        )
        assert make(0.1, arl=25.0, rates_worse=worse).update(values).tolist() == expected


def test_a_bet_is_the_likelihood_ratio_of_two_rates() -> None:
    detector = ESr(0.05, arl=1e15, rates_worse=[0.2])
    detector.update([1.0])
    ratio = binom.pmf(1, 1, 0.2) / binom.pmf(1, 1, 0.05)
    assert math.isclose(math.exp(detector.log_e_value), ratio, rel_tol=1e-12)
    detector.update([0.0])
    ratio = (ratio + 1) * binom.pmf(0, 1, 0.2) / binom.pmf(0, 1, 0.05)
    assert math.isclose(math.exp(detector.log_e_value), ratio, rel_tol=1e-12)


@both
@pytest.mark.parametrize("losses", ["errors", "shares"])
def test_runs_without_change_last_arl_values_on_average(make: Made, losses: str) -> None:
    """Cut runs count as if they had ended, so the mean of the runs is a lower bound."""
    rng = generator(f"arl {make.name} {losses}")
    arl, length = 60.0, 1200
    lengths = []
    for _ in range(RUNS):
        draws = rng.random(length) if losses == "errors" else rng.beta(0.2, 1.8, length)
        values = (draws < 0.1).astype(np.float64) if losses == "errors" else draws
        found = make(0.1, arl=arl).update(values)
        lengths.append(float(found[0] + 1) if found.size else float(length))
    five_errors = 5 * float(np.std(lengths)) / math.sqrt(RUNS)
    assert np.mean(lengths) + five_errors >= arl
    # And it does run out: this is no detector that never speaks.
    assert min(lengths) < length


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="400 runs of 1,000 steps")
@both
def test_an_error_rate_that_goes_from_5_to_20_percent_is_seen_within_60_values(make: Made) -> None:
    rng = generator(f"delay {make.name}")
    delays = []
    for _ in range(RUNS):
        rates = np.repeat([0.05, 0.2], [200, 800])
        found = make(0.05, arl=1000.0).update((rng.random(1000) < rates).astype(np.float64))
        after = found[found >= 200]
        delays.append(float(after[0] - 199) if after.size else 800.0)
    assert np.median(delays) <= 60
    assert np.quantile(delays, 0.95) <= 200


def test_since_is_where_the_change_began() -> None:
    rng = generator("since")
    distances = []
    for _ in range(40):
        values = (rng.random(700) < np.repeat([0.02, 0.4], [600, 100])).astype(np.float64)
        detector = ECusum(0.02, arl=1e6)
        for x in values:
            if detector.update(x).size and detector.seen > 600:
                break
        distances.append(abs(detector.since - 600))
    assert np.median(distances) <= 25


@both
def test_a_value_outside_of_0_to_1_is_refused_and_nothing_is_taken_in(make: Made) -> None:
    detector = make(0.1)
    with pytest.raises(ValueError, match=r"values: expected numbers in \[0, 1\], got 1.5"):
        detector.update([0.0, 1.5])
    assert detector.seen == 0


@both
def test_wealth_stays_finite_at_the_lowest_rate_and_the_highest_alarm(make: Made) -> None:
    detector = make(1.1e-9, arl=1e15)
    detector.update(np.zeros(10))
    found = detector.update(np.ones(50))
    assert found.size >= 1
    assert math.isfinite(detector.log_e_value)
    assert detector.log_e_value >= math.log(1e15) or not detector.drift_detected


def test_log_e_value_is_minus_infinity_before_the_first_value() -> None:
    assert ECusum(0.1).log_e_value == -math.inf


def test_the_bound_on_an_unknown_rate_is_above_the_exact_one_and_not_far() -> None:
    for bad, count in [(0, 10), (5, 100), (50, 1000), (1000, 1000), (3, 100_000)]:
        bound = mean_upper_bound(bad / count, count, 0.99)
        exact = float(beta.ppf(0.99, bad + 1, count - bad)) if bad < count else 1.0
        assert exact * (1 - 1e-12) <= bound <= 2.5 * exact


@pytest.mark.parametrize(
    ("mean", "count", "confidence"), [(-0.1, 5, 0.9), (0.1, 0, 0.9), (0.1, 5, 1.0)]
)
def test_a_bound_of_nothing_is_refused(mean: float, count: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        mean_upper_bound(mean, count, confidence)


def test_a_detector_from_a_reference_keeps_its_promise_where_an_estimate_would_not() -> None:
    """Reference of 200 values, true rate 5 %: about half of all estimates lie below it."""
    rng = generator("reference")
    below, covered = 0, 0
    for _ in range(RUNS):
        reference_values = (rng.random(200) < 0.05).astype(np.float64)
        below += reference_values.mean() < 0.05
        covered += ECusum.from_reference(reference_values, confidence=0.9).rate >= 0.05
    assert below > RUNS / 4
    assert covered >= RUNS * 0.9 - 5 * math.sqrt(RUNS * 0.09)


def test_a_reference_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="values: expected at least one, got none"):
        ECusum.from_reference([])
