"""Guards: their formulas, their promise under looks at every step, and how soon they speak."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from kedge_kernels._frames import pack
from kedge_kernels.evidence import EProcess, log_mean_exp
from kedge_kernels.guards import (
    SPLIT_ODDS,
    WIN_RATES,
    AbsoluteGuard,
    BadEventGuard,
    PairedGuard,
    SampleRatioGuard,
)
from support import reference_evidence as reference
from support.seeds import generator

RUNS = 20 if numba.config.DISABLE_JIT else 400
STEPS = 200 if numba.config.DISABLE_JIT else 2000
ALPHA = 0.05
# Five standard errors above the promise: less than one false failure in a million.
FALSE_ALARMS_MAX = RUNS * ALPHA + 5 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))

Outcome = tuple[bool, float]
events = st.lists(
    st.tuples(st.booleans(), st.one_of(st.floats(1e-6, 1 - 1e-6), st.sampled_from([0.0, 1.0]))),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(events=events, margin=st.floats(0.01, 100))
def test_bad_events_give_the_mean_of_the_products_of_likelihood_ratios(
    events: list[Outcome], margin: float
) -> None:
    guard = BadEventGuard(ALPHA, margin)
    guard.update([c for c, _ in events], [w for _, w in events])
    expected = reference.bad_event_e_value(events, margin)
    assert math.isclose(guard.e_value, expected, rel_tol=1e-9)
    assert math.isclose(guard.log_e_value, math.log(expected), rel_tol=1e-9, abs_tol=1e-9)
    assert guard.observations == sum(0 < w < 1 for _, w in events)


@settings(max_examples=40, deadline=None)
@given(bad=st.lists(st.booleans(), max_size=60), rate=st.floats(0.001, 0.9))
def test_an_absolute_guard_gives_the_mean_of_the_products(bad: list[bool], rate: float) -> None:
    guard = AbsoluteGuard(ALPHA, rate)
    guard.update(bad)
    assert math.isclose(guard.e_value, reference.rate_e_value(bad, rate), rel_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8))
def test_pairs_give_the_mean_over_win_rates_however_they_arrive(
    counts: list[tuple[int, int]],
) -> None:
    together, apart = PairedGuard(ALPHA), PairedGuard(ALPHA)
    wins, losses = zip(*counts, strict=True)
    together.update(wins, losses)
    for won, lost in counts:
        apart.update(won, lost)
    expected = reference.paired_e_value(sum(wins), sum(losses))
    assert math.isclose(together.e_value, expected, rel_tol=1e-9)
    assert together.to_bytes() == apart.to_bytes()
    assert together.observations == sum(wins) + sum(losses)


def test_likelihood_ratios_are_those_of_scipys_binomial() -> None:
    """With one share throughout, only the counts matter."""
    guard = BadEventGuard(ALPHA)
    guard.update([True] * 7 + [False] * 20, 0.1)
    ratios = [
        binom.pmf(7, 27, 0.1 * odds / (0.1 * odds + 0.9)) / binom.pmf(7, 27, 0.1)
        for odds in reference.ODDS
    ]
    assert math.isclose(guard.e_value, np.mean(ratios), rel_tol=1e-9)
    pairs = PairedGuard(ALPHA)
    pairs.update(9, 4)
    ratios = [binom.pmf(9, 13, rate) / binom.pmf(9, 13, 0.5) for rate in WIN_RATES]
    assert math.isclose(pairs.e_value, np.mean(ratios), rel_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(events=events)
def test_a_split_is_judged_either_way(events: list[Outcome]) -> None:
    guard, mirrored = SampleRatioGuard(ALPHA), SampleRatioGuard(ALPHA)
    guard.update([c for c, _ in events], [w for _, w in events])
    mirrored.update([not c for c, _ in events], [1 - w for _, w in events])
    odds = [*SPLIT_ODDS, *(1 / x for x in SPLIT_ODDS)]
    expected = reference.bad_event_e_value(events, 1.0, odds)
    assert math.isclose(guard.e_value, expected, rel_tol=1e-9)
    assert math.isclose(mirrored.log_e_value, guard.log_e_value, rel_tol=1e-6, abs_tol=1e-9)


def test_forced_requests_contribute_nothing() -> None:
    for margin in (0.1, 1.0, 3.0):
        guard = BadEventGuard(ALPHA, margin)
        guard.update([True, False, True, False] * 100, [0.0, 0.0, 1.0, 1.0] * 100)
        assert (guard.log_e_value, guard.observations, guard.rejected) == (0.0, 0, False)


def bad_events(
    rng: np.random.Generator, shares: Any, rate_candidate: Any, rate_stable: Any
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Whose request each was, and its share, for the requests that turned out bad."""
    arm = rng.random(shares.size) < shares
    bad = rng.random(shares.size) < np.where(arm, rate_candidate, rate_stable)
    return arm[bad], shares[bad]


def test_equal_arms_are_rejected_at_most_alpha_often_though_shares_and_outages_come_and_go() -> (
    None
):
    """The guard looks at every event and the base rate jumps from 1 % to 40 % and back."""
    rng = generator("null bad events")
    base = np.repeat([0.01, 0.4, 0.02], STEPS)
    shares = np.repeat([0.05, 0.5, 0.2, 0.9, 0.1, 0.3], STEPS // 2)
    rejections = 0
    for _ in range(RUNS):
        guard = BadEventGuard(ALPHA)
        guard.update(*bad_events(rng, shares, base, base))
        rejections += guard.rejected
    assert rejections <= FALSE_ALARMS_MAX


def test_a_candidate_within_its_margin_is_rejected_at_most_alpha_often() -> None:
    rng = generator("null margin")
    shares = np.full(STEPS, 0.3)
    rejections = {1.0: 0, 2.0: 0}
    for _ in range(RUNS):
        drawn = bad_events(rng, shares, 0.2, 0.1)
        for margin in rejections:
            guard = BadEventGuard(ALPHA, margin)
            guard.update(*drawn)
            rejections[margin] += guard.rejected
    assert rejections[2.0] <= FALSE_ALARMS_MAX
    # Without the margin the same candidate is worse and is found out.
    assert rejections[1.0] > FALSE_ALARMS_MAX or numba.config.DISABLE_JIT


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: _fed(AbsoluteGuard(ALPHA, 0.02), rng.random(STEPS) < 0.02),
        lambda rng: _fed(AbsoluteGuard(ALPHA, 0.5), rng.random(STEPS) < 0.5),
        lambda rng: _fed(PairedGuard(ALPHA), *_coins(rng)),
        lambda rng: _fed(SampleRatioGuard(ALPHA), rng.random(STEPS) < 0.1, 0.1),
        lambda rng: _fed(SampleRatioGuard(ALPHA), rng.random(STEPS) < 0.5, 0.5),
    ],
)
def test_a_true_hypothesis_is_rejected_at_most_alpha_often(
    draw: Callable[[np.random.Generator], EProcess],
) -> None:
    rng = generator("null")
    assert sum(draw(rng).rejected for _ in range(RUNS)) <= FALSE_ALARMS_MAX


def _fed(guard: Any, *arguments: Any) -> EProcess:
    guard.update(*arguments)
    fed: EProcess = guard
    return fed


def _coins(rng: np.random.Generator) -> tuple[Any, Any]:
    won = (rng.random(STEPS) < 0.5).astype(np.int64)
    return won, 1 - won


def requests_until_rejection(
    rng: np.random.Generator, alpha: float, rate_stable: float
) -> tuple[int, int]:
    """Candidate requests and bad answers of the candidate until a rejection: 5 % errors at 10 %."""
    arm = rng.random(20_000) < 0.1
    bad = rng.random(20_000) < np.where(arm, 0.05, rate_stable)
    guard = BadEventGuard(alpha)
    for i in np.flatnonzero(bad):
        guard.update(arm[i], 0.1)
        if guard.rejected:
            return int(arm[: i + 1].sum()), int((arm & bad)[: i + 1].sum())
    return 2000, 2000


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="400 runs of 20,000 requests")
@pytest.mark.parametrize(("alpha", "answers_max"), [(0.05, 3), (0.01, 4), (0.001, 6), (0.0001, 7)])
def test_50_times_the_errors_at_10_percent_weight_cost_few_bad_answers(
    alpha: float, answers_max: int
) -> None:
    rng = generator(f"power {alpha}")
    answers = [requests_until_rejection(rng, alpha, 0.001)[1] for _ in range(400)]
    assert 2 <= np.median(answers) <= answers_max


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="400 runs of 20,000 requests")
def test_ten_times_the_errors_at_10_percent_weight_are_found_within_90_requests() -> None:
    rng = generator("power requests")
    requests = [requests_until_rejection(rng, ALPHA, 0.005)[0] for _ in range(400)]
    assert np.median(requests) <= 90


def test_stated_shifts_are_found() -> None:
    rng = generator("shifts")
    assert _fed(AbsoluteGuard(ALPHA, 0.01), rng.random(1000) < 0.1).rejected
    assert _fed(SampleRatioGuard(ALPHA), rng.random(20_000) < 0.45, 0.5).rejected
    assert _fed(SampleRatioGuard(ALPHA), rng.random(20_000) < 0.55, 0.5).rejected
    assert _fed(PairedGuard(ALPHA), 40, 10).rejected
    assert not _fed(PairedGuard(ALPHA), 10, 40).rejected


def test_a_rejection_stays_whatever_comes_later() -> None:
    guard = AbsoluteGuard(ALPHA, 0.01)
    guard.update([True] * 5 + [False] * 5000)
    assert guard.rejected
    assert guard.log_e_value < 0
    assert AbsoluteGuard.from_bytes(guard.to_bytes()).rejected


def test_a_rejection_comes_at_the_event_that_brings_the_evidence_to_one_over_alpha() -> None:
    guard = BadEventGuard(ALPHA)
    while not guard.rejected:
        assert guard.e_value < 1 / ALPHA
        guard.update(True, 0.1)
    assert guard.e_value >= 1 / ALPHA


@pytest.mark.parametrize(
    "guard", [BadEventGuard(ALPHA), SampleRatioGuard(ALPHA), AbsoluteGuard(ALPHA, 0.01)]
)
def test_a_million_events_overflow_nothing(guard: Any) -> None:
    count = 10_000 if numba.config.DISABLE_JIT else 1_000_000
    arguments = (0.01,) if not isinstance(guard, AbsoluteGuard) else ()
    guard.update(np.ones(count, dtype=bool), *arguments)
    assert math.isfinite(guard.log_e_value)
    assert guard.log_e_value > count
    assert guard.e_value == math.inf
    guard.update(np.zeros(count, dtype=bool), *arguments)
    assert math.isfinite(guard.log_e_value)


def test_a_million_pairs_overflow_nothing() -> None:
    guard = PairedGuard(ALPHA)
    guard.update(10**6, 0)
    assert guard.e_value == math.inf
    guard.update(0, 10**7)
    assert math.isfinite(guard.log_e_value)
    assert guard.e_value == 0.0


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (lambda: BadEventGuard(0.01, 1.5), ([True, False, True], [0.1, 0.2, 0.3])),
        (lambda: SampleRatioGuard(0.01), ([True, False, True], [0.1, 0.2, 0.3])),
        (lambda: AbsoluteGuard(0.01, 0.3), ([True, False, True],)),
        (lambda: PairedGuard(0.01), (3, 2)),
    ],
)
def test_a_guard_from_its_bytes_goes_on(make: Callable[[], Any], arguments: Any) -> None:
    guard = make()
    guard.update(*arguments)
    again = type(guard).from_bytes(guard.to_bytes())
    guard.update(*arguments)
    again.update(*arguments)
    assert again.to_bytes() == guard.to_bytes()
    assert repr(again) == repr(guard)
    assert again.alpha == 0.01
    data = guard.to_bytes()
    for wrong in (b"", data[:-8], data + b"12345678", data[:40] + b"\xff" + data[41:]):
        with pytest.raises(ValueError, match="state of"):
            type(guard).from_bytes(wrong)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0.05, 1.0, 3.0], "more numbers"),
        ([2.0, 1.0, 3.0, 0.0, *[0.0] * 10], "alpha"),
        ([0.05, 1.0, 3.0, 0.5, *[0.0] * 10], "a count and a verdict"),
        ([0.05, 1.0, -3.0, 0.0, *[0.0] * 10], "a count and a verdict"),
        ([0.05, 1.0, 3.0, 0.0, *[0.0] * 9], "10 bets"),
        ([0.05, 1.0, 3.0, 0.0, *[math.nan] * 10], "10 bets"),
    ],
)
def test_forged_guards_are_refused(numbers: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BadEventGuard.from_bytes(pack("BadEventGuard", numbers))


@pytest.mark.parametrize("make", [BadEventGuard, SampleRatioGuard])
@pytest.mark.parametrize(
    ("candidate", "probability", "message"),
    [
        (
            [True],
            [1.5],
            r"probability: expected numbers in \(0, 1\), or 0 and 1 if forced, got 1.5",
        ),
        ([True, True], [0.1, -0.1], "probability: expected .* got -0.1"),
        ([True], [math.nan], "probability: expected .* got nan"),
        ([True, False], [0.1, 0.2, 0.3], "candidate and probability: expected equal lengths"),
        ([2], [0.1], "candidate: expected truths, 0 or 1, got 2"),
        ([[True]], [0.1], "candidate: expected 1 dimension"),
    ],
)
def test_wrong_events_are_refused_and_nothing_is_taken_in(
    make: Any, candidate: Any, probability: Any, message: str
) -> None:
    guard = make(ALPHA)
    with pytest.raises(ValueError, match=message):
        guard.update(candidate, probability)
    assert (guard.log_e_value, guard.observations) == (0.0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BadEventGuard(0.0), r"alpha: expected a number in \(0, 1\), got 0.0"),
        (lambda: BadEventGuard(math.nan), "alpha: expected"),
        (lambda: BadEventGuard(0.1, 0.0), "margin: expected"),
        (lambda: AbsoluteGuard(0.1, 1.0), "rate_max: expected"),
        (lambda: AbsoluteGuard(0.1, 0.1).update([0.5]), "bad: expected truths"),
        (lambda: PairedGuard(0.1).update(1.5, 0), "wins: expected whole counts, got 1.5"),
        (lambda: PairedGuard(0.1).update(1, -1), "losses: expected whole counts, got -1"),
        (lambda: PairedGuard(0.1).update([1, 2], [1]), "wins and losses: expected equal"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@given(logs=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=8))
def test_a_mean_of_exponentials_of_anything_is_finite(logs: list[float]) -> None:
    found = log_mean_exp(np.array(logs))
    assert max(logs) - math.log(len(logs)) - 1e-9 * abs(max(logs)) <= found
    assert found <= max(logs) + 1e-9 * abs(max(logs)) + 1e-12
