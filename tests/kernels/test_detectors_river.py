"""Detections at the same positions as river's, over streams of every kind and parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from river import drift
from river.drift import binary

from kedge_kernels.adwin import Adwin
from kedge_kernels.ddm import MOST, Ddm, Eddm
from kedge_kernels.detector_state import Detector, WarningDetector
from kedge_kernels.detectors import DETECTED, IN_WARNING, detectors_step, join_states
from kedge_kernels.hddm import HddmA, HddmW
from kedge_kernels.kswin import Kswin
from kedge_kernels.page_hinkley import SUM_DOWN, SUM_UP, PageHinkley
from support.seeds import generator
from support.streams import KINDS, Floats, stream

Parameters = dict[str, Any]

# 14 of each kind are 112 streams. Without the compiler a step is a hundred times as slow.
COPIES = 1 if numba.config.DISABLE_JIT else 14
LENGTH_MAX = 400 if numba.config.DISABLE_JIT else 2500

PAIRS: list[tuple[type[Detector], Callable[..., Any], list[Parameters]]] = [
    (
        Adwin,
        drift.ADWIN,
        [
            {},
            {"delta": 0.05, "clock": 1},
            {"delta": 0.3, "clock": 7, "max_buckets": 2, "min_window_length": 1},
            {"grace_period": 100, "max_buckets": 11, "delta": 0.1},
        ],
    ),
    (
        PageHinkley,
        drift.PageHinkley,
        [
            {},
            {"threshold": 5.0, "mode": "up"},
            {"threshold": 5.0, "mode": "down"},
            {"min_instances": 1, "delta": 0.0, "threshold": 2.0, "alpha": 1.0},
        ],
    ),
    (Ddm, binary.DDM, [{}, {"warm_start": 1}, {"drift_threshold": 1.5, "warning_threshold": 1.0}]),
    (Eddm, binary.EDDM, [{}, {"warm_start": 5}, {"alpha": 0.8, "beta": 0.75}]),
    (
        HddmA,
        binary.HDDMA,
        [{}, {"two_sided_test": True}, {"drift_confidence": 0.2, "warning_confidence": 0.4}],
    ),
    (
        HddmW,
        binary.HDDMW,
        [
            {},
            {"two_sided_test": True},
            {"lambda_val": 0.3, "drift_confidence": 0.1, "two_sided_test": True},
        ],
    ),
    (
        Kswin,
        drift.KSWIN,
        [
            {"seed": 0},
            {"seed": 2**40 + 7, "alpha": 0.05},
            {"seed": 3, "window_size": 60, "stat_size": 30, "alpha": 0.02},
            {"seed": 9, "window_size": 400, "stat_size": 5, "alpha": 0.1},
        ],
    ),
]
NAMES = [ours.name for ours, _, _ in PAIRS]


def river_positions(detector: Any, values: list[float]) -> tuple[list[int], list[int]]:
    """Where it detects, and where it is in the warning zone without."""
    detections, warnings = [], []
    for i, x in enumerate(values):
        detector.update(x)
        if detector.drift_detected:
            detections.append(i)
        elif getattr(detector, "warning_detected", False):
            warnings.append(i)
    return detections, warnings


def streams_for(ours: type[Detector]) -> list[Floats]:
    """112 streams; river's KSWIN takes 0.2 ms a value, so its are shorter."""
    rng = generator(f"river {ours.name}")
    shorter = 6 if ours is Kswin else 1
    return [
        stream(kind, rng, int(rng.integers(100, LENGTH_MAX)) // shorter + 50)
        for kind in KINDS
        for _ in range(COPIES)
    ]


@pytest.mark.parametrize(("ours", "theirs", "parameters"), PAIRS, ids=NAMES)
def test_detections_are_at_rivers_positions(
    ours: type[Detector], theirs: Callable[..., Any], parameters: list[Parameters]
) -> None:
    found = 0
    for i, values in enumerate(streams_for(ours)):
        chosen = parameters[i % len(parameters)]
        expected, _ = river_positions(theirs(**chosen), values.tolist())
        assert ours(**chosen).update(values).tolist() == expected, (i, chosen)
        found += len(expected)
    assert found > 20 or numba.config.DISABLE_JIT, "these streams test nothing"


@pytest.mark.parametrize(("ours", "theirs", "parameters"), PAIRS[2:6], ids=NAMES[2:6])
def test_warnings_are_where_river_warns(
    ours: type[Detector], theirs: Callable[..., Any], parameters: list[Parameters]
) -> None:
    warned = 0
    for i, values in enumerate(streams_for(ours)[:: 4 if COPIES > 1 else 1]):
        chosen = parameters[i % len(parameters)]
        expected, expected_warnings = river_positions(theirs(**chosen), values.tolist())
        states = join_states([ours(**chosen)])
        levels = np.concatenate([detectors_step([x], states) for x in values])
        assert np.flatnonzero(levels == DETECTED).tolist() == expected
        assert np.flatnonzero(levels == IN_WARNING).tolist() == expected_warnings
        warned += len(expected_warnings)
    assert warned > 0 or numba.config.DISABLE_JIT, "these streams test nothing"


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e150])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(Adwin, drift.ADWIN), (PageHinkley, drift.PageHinkley)]
)
def test_values_of_any_size_are_judged_as_by_river(
    ours: type[Detector], theirs: Callable[..., Any], scale: float
) -> None:
    rng = generator(f"scale {ours.name} {scale}")
    values = scale * (rng.standard_t(2, 600) + np.repeat([0.0, 5.0, -5.0], 200))
    assert ours().update(values).tolist() == river_positions(theirs(), values.tolist())[0]


def test_adwin_keeps_the_statistics_of_rivers_window() -> None:
    """Also right after a detection, when buckets have been dropped, each with its variance."""
    rng = generator("adwin window")
    for made in ({}, {"max_buckets": 2, "clock": 3}):
        ours, theirs = Adwin(**made), drift.ADWIN(**made)
        shrunk = 0
        for x in rng.normal(np.repeat([0.0, 3.0, 0.0], 400), 1.0).tolist():
            shrunk += ours.update(x).size
            theirs.update(x)
            assert (ours.width, ours.total) == (theirs.width, theirs.total)
            assert (ours.variance, ours.estimation) == (theirs.variance, theirs.estimation)
        assert shrunk >= 2


def test_a_jump_is_seen_as_soon_as_a_part_has_its_least_length() -> None:
    """Of one value here: from 20 to 30 values before it, no longer part would show the jump yet."""
    rng = generator("jump")
    for at in range(20, 31):
        values = rng.normal(np.where(np.arange(60) < at, 0.0, 1e4), 1.0)
        made = {"min_window_length": 1, "clock": 1}
        expected, _ = river_positions(drift.ADWIN(**made), values.tolist())
        assert Adwin(**made).update(values).tolist() == expected
        assert expected[0] == at


def test_page_hinkleys_sums_are_rivers_to_the_last_bit() -> None:
    ours, theirs = PageHinkley(), drift.PageHinkley()
    for x in generator("sums").normal(size=300).tolist():
        ours.update(x)
        theirs.update(x)
        sums = (theirs._sum_increase, theirs._sum_decrease)
        assert (ours.state[SUM_UP], ours.state[SUM_DOWN]) == sums


@pytest.mark.parametrize(("made", "theirs", "parameters"), PAIRS[2:6], ids=NAMES[2:6])
def test_in_warning_is_the_warning_of_the_last_value_even_where_it_is_a_detection(
    made: type[Detector], theirs: Callable[..., Any], parameters: list[Parameters]
) -> None:
    rng = generator(f"in warning {made.name}")
    for chosen in parameters:
        values = (rng.random(1200) < np.repeat([0.05, 0.4, 0.1], 400)).astype(np.float64)
        ours, peer = made(**chosen), theirs(**chosen)
        assert isinstance(ours, WarningDetector)
        for x in values.tolist():
            ours.update(x)
            peer.update(x)
            assert ours.drift_detected == peer.drift_detected
            assert ours.in_warning == peer.warning_detected


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="240,000 values")
def test_eddm_takes_roots_as_river_does() -> None:
    """By power, which rounds otherwise than a square root 9 times in 10,000; once in these."""
    ours, theirs = Eddm(), binary.EDDM()
    for distance in range(1, 700):
        ours.update([*[0.0] * (distance - 1), 1.0])
        for _ in range(distance - 1):
            theirs.update(False)
        theirs.update(True)
        assert ours.state[MOST] == theirs._p2s_prime_max


def test_kswin_accepts_values_already_seen_as_river_does() -> None:
    rng = generator("kswin window")
    before, after = rng.normal(0, 1, 130), rng.normal(1.5, 1, 60)
    expected, _ = river_positions(drift.KSWIN(seed=4, window=before.tolist()), after.tolist())
    assert Kswin(seed=4, window=before).update(after).tolist() == expected
    assert expected
