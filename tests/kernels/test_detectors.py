"""What holds for every streaming detector: blocks, states, bytes, values that say nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge_kernels._frames import pack
from kedge_kernels._mersenne import SIZE, draw_below, seed_twister
from kedge_kernels.adwin import BUCKETS_MAX, COUNTS, ROWS, UNTIL_CHECK, Adwin
from kedge_kernels.ddm import Ddm, Eddm
from kedge_kernels.detector_state import HEAD, KIND, SEEN, Detector
from kedge_kernels.detectors import (
    DETECTED,
    Detectors,
    detectors_step,
    join_states,
    split_states,
)
from kedge_kernels.e_detectors import ECusum, ESr
from kedge_kernels.hddm import HddmA, HddmW
from kedge_kernels.kswin import FILLED, OLDEST, POOL_MAX, RECENT, TWISTER, Kswin
from kedge_kernels.page_hinkley import PageHinkley
from support import reference_detectors as reference
from support.seeds import generator
from support.streams import KINDS, Floats, stream

MAKERS: dict[str, Callable[[], Detector]] = {
    "Adwin": lambda: Adwin(delta=0.2),
    "PageHinkley": lambda: PageHinkley(threshold=3.0),
    "Ddm": Ddm,
    "Eddm": Eddm,
    "HddmA": lambda: HddmA(two_sided_test=True),
    "HddmW": lambda: HddmW(two_sided_test=True),
    "Kswin": lambda: Kswin(alpha=0.05, seed=11),
    "ECusum": lambda: ECusum(0.2, arl=30.0),
    "ESr": lambda: ESr(0.2, arl=30.0),
}
every_detector = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
LENGTH = 300 if numba.config.DISABLE_JIT else 2000


def streams(name: str) -> Iterator[Floats]:
    rng = generator(name)
    return (stream(kind, rng, int(rng.integers(LENGTH // 2, LENGTH))) for kind in KINDS)


@pytest.mark.parametrize(
    ("make", "twin"),
    [
        (Adwin, reference.adwin),
        (PageHinkley, reference.page_hinkley),
        (Ddm, reference.ddm),
        (Eddm, reference.eddm),
        (HddmA, reference.hddm_a),
        (HddmW, reference.hddm_w),
        (lambda: Kswin(seed=5), lambda: reference.kswin(5)),
    ],
    ids=list(MAKERS)[:7],
)
def test_a_detector_detects_where_its_slow_twin_does(
    make: Callable[[], Detector], twin: Callable[[], Callable[[float], bool]]
) -> None:
    # Fixed: the twins round otherwise, which at a near tie may move a detection by one.
    rng = np.random.default_rng(20)
    found = 0
    for _ in range(4):
        rates = np.repeat([0.1, 0.6, 0.2], 250)
        values = (rng.random(750) < rates).astype(np.float64)
        expected = reference.positions(twin, values.tolist())
        assert make().update(values).tolist() == expected
        found += len(expected)
    assert found > 3 or make is PageHinkley


@every_detector
def test_how_a_stream_is_cut_into_blocks_changes_nothing(make: Callable[[], Detector]) -> None:
    rng = generator("blocks")
    for values in streams("blocks"):
        whole, parts, single = make(), make(), make()
        expected = whole.update(values).tolist()
        cuts = np.sort(rng.integers(0, values.size + 1, 7))
        found = [i for part in np.split(values, cuts) for i in parts.update(part).tolist()]
        one_by_one = [i for x in values for i in single.update(x).tolist()]
        assert found == one_by_one == expected
        assert parts.to_bytes() == single.to_bytes() == whole.to_bytes()


@every_detector
def test_a_detector_from_its_bytes_goes_on_as_if_nothing_happened(
    make: Callable[[], Detector],
) -> None:
    for values in streams("bytes"):
        half = values.size // 2
        there = make()
        there.update(values[:half])
        back = type(there).from_bytes(there.to_bytes())
        assert back.update(values[half:]).tolist() == there.update(values[half:]).tolist()
        assert back.to_bytes() == there.to_bytes()


@every_detector
def test_reset_makes_a_detector_as_good_as_new(make: Callable[[], Detector]) -> None:
    values = next(streams("reset"))
    used, new = make(), make()
    expected = new.update(values).tolist()
    used.update(values[::-1])
    used.reset()
    assert (used.seen, used.detections, used.drift_detected) == (0, 0, False)
    assert used.update(values).tolist() == expected


@every_detector
def test_values_that_are_not_finite_count_as_positions_and_do_nothing_else(
    make: Callable[[], Detector],
) -> None:
    rng = generator("not finite")
    for values in streams("not finite"):
        where = rng.integers(0, values.size + 1, 20)
        junk = rng.choice([math.nan, math.inf, -math.inf], 20)
        mixed = np.insert(values, where, junk)
        kept = np.flatnonzero(np.isfinite(mixed))
        plain, holed = make(), make()
        expected = kept[plain.update(values)].tolist()
        assert holed.update(mixed).tolist() == expected
        assert (holed.skipped, holed.seen) == (20, mixed.size)


@every_detector
def test_no_value_at_all_is_no_detection(make: Callable[[], Detector]) -> None:
    detector = make()
    before = detector.to_bytes()
    found = detector.update([])
    assert found.dtype == np.int64
    assert found.tolist() == []
    assert detector.to_bytes() == before


@every_detector
def test_a_matrix_of_values_is_refused(make: Callable[[], Detector]) -> None:
    with pytest.raises(ValueError, match=r"values: expected 1 dimension\(s\), got shape \(2, 2\)"):
        make().update(np.zeros((2, 2)))


@every_detector
@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(width=64), max_size=60))
def test_whatever_floats_come_positions_are_in_order_and_states_save(
    make: Callable[[], Detector], values: list[float]
) -> None:
    detector = make()
    if isinstance(detector, (ECusum, ESr)):
        values = [x for x in values if not (math.isfinite(x) and not 0 <= x <= 1)]
    with np.errstate(all="ignore"):
        found = detector.update(values).tolist()
    assert found == sorted(set(found))
    assert all(0 <= i < len(values) for i in found)
    assert detector.detections == len(found)
    assert type(detector).from_bytes(detector.to_bytes()).to_bytes() == detector.to_bytes()


def test_all_detectors_advance_in_one_call_as_each_by_itself() -> None:
    rng = generator("all")
    alone = [make() for make in MAKERS.values()]
    states = join_states(alone)
    for _ in range(LENGTH // 2):
        x = (rng.random(len(alone)) < rng.choice([0.1, 0.9])).astype(np.float64)
        x[rng.random(x.size) < 0.05] = math.nan
        levels = detectors_step(x, states)
        for d, detector in enumerate(alone):
            hit = detector.update(x[d]).size == 1
            assert (levels[d] == DETECTED) == hit
    assert join_states(alone).tobytes() == states.tobytes()
    assert sum(detector.detections for detector in alone) > 9


def test_a_group_is_split_saved_and_made_again() -> None:
    group = Detectors([make() for make in MAKERS.values()])
    rng = generator("group")
    for _ in range(50):
        group.step(rng.random(len(MAKERS)))
    again = Detectors.from_bytes(group.to_bytes())
    assert [type(d).__name__ for d in again.split()] == list(MAKERS)
    x = rng.random(len(MAKERS))
    assert again.step(x).tolist() == group.step(x).tolist()
    assert again.states.tobytes() == group.states.tobytes()


def test_no_detector_is_a_group_too() -> None:
    assert detectors_step([], join_states([])).tolist() == []


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0, 0.0]])
def test_states_of_another_number_of_detectors_are_refused_and_left_as_they_were(
    values: list[float],
) -> None:
    states = join_states([Ddm(), Ddm()])
    before = states.tobytes()
    with pytest.raises(ValueError, match="states: expected"):
        detectors_step(values, states)
    assert states.tobytes() == before


def test_states_that_are_no_writable_row_of_floats_are_refused() -> None:
    states = join_states([Ddm()])
    frozen = states.copy()
    frozen.flags.writeable = False
    for wrong in (states.astype(np.float32), np.repeat(states, 2)[::2], frozen, states[None]):
        with pytest.raises(ValueError, match="states: expected writable contiguous"):
            detectors_step([0.0], wrong)


@every_detector
def test_damaged_bytes_are_refused(make: Callable[[], Detector]) -> None:
    rng = generator("damage")
    detector = make()
    detector.update(next(streams("damage")))
    data = detector.to_bytes()
    for _ in range(200):
        torn = bytearray(data)
        torn[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        with pytest.raises(ValueError, match=f"state of {detector.name}: expected"):
            type(detector).from_bytes(bytes(torn))
    for size in (0, 5, 27, 28, len(data) - 1):
        with pytest.raises(ValueError, match="expected"):
            type(detector).from_bytes(data[:size])
    with pytest.raises(ValueError, match="expected"):
        type(detector).from_bytes(data + bytes(8))


@every_detector
def test_forged_states_are_refused_or_harmless(make: Callable[[], Detector]) -> None:
    """Numbers that no detector writes, under a right checksum."""
    rng = generator("forged")
    detector = make()
    detector.update(next(streams("forged")))
    odd = [math.nan, math.inf, -math.inf, -1.0, 0.5, 1e300, 2.0**53, 2.0**63, 7.0]
    with np.errstate(all="ignore"):
        for _ in range(300):
            numbers = detector.state.copy()
            where = rng.integers(0, min(numbers.size, 90), 3)
            numbers[where] = rng.choice(odd, 3)
            # Numbers on both sides: a kernel that left its state would change them.
            try:
                forged = type(detector).from_bytes(pack(detector.name, numbers))
            except ValueError:
                continue
            fence = np.full(numbers.size + 2000, 12345.0)
            fence[1000:-1000] = forged.state
            forged._state = fence[1000:-1000]
            # Without the compiler the root of a negative number is an exception.
            with suppress(ValueError):
                forged.update(rng.random(100))
            assert (fence[:1000] == 12345.0).all()
            assert (fence[-1000:] == 12345.0).all()


@pytest.mark.parametrize(
    ("make", "field", "number"),
    [
        (Adwin, BUCKETS_MAX, 65.0),
        (Adwin, BUCKETS_MAX, 6.0),
        (Adwin, ROWS, 57.0),
        (Adwin, ROWS, 0.0),
        (Adwin, COUNTS, 6.0),
        (Adwin, COUNTS + 3, 1.0),
        (Adwin, UNTIL_CHECK, 0.0),
        (lambda: Kswin(seed=1), FILLED, 101.0),
        (lambda: Kswin(seed=1), OLDEST, 100.0),
        (lambda: Kswin(seed=1), RECENT, 51.0),
        (lambda: Kswin(seed=1), POOL_MAX, 0.0),
        (lambda: Kswin(seed=1), TWISTER + 624, 625.0),
        (lambda: ECusum(0.1), HEAD + 2, 65.0),
        (Ddm, KIND, 1.0),
        (Ddm, SEEN, -1.0),
    ],
)
def test_a_position_out_of_bounds_is_refused(
    make: Callable[[], Detector], field: int, number: float
) -> None:
    detector = make()
    numbers = detector.state.copy()
    numbers[field] = number
    with pytest.raises(ValueError, match="state of"):
        type(detector).from_bytes(pack(detector.name, numbers))


def test_states_that_are_none_are_not_split() -> None:
    for wrong in ([0.0], [99.0] * 8, [math.nan] * 8, join_states([Ddm()])[:-1].tolist()):
        with pytest.raises(ValueError, match="states: expected"):
            split_states(np.array(wrong))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adwin(delta=0.0), r"delta: expected a number in \(0, 1\), got 0.0"),
        (lambda: Adwin(clock=0), "clock: expected a whole number 1 to"),
        (lambda: Adwin(max_buckets=1), "max_buckets: expected a whole number 2 to 64, got 1"),
        (lambda: PageHinkley(mode="sideways"), "mode: expected one of .*, got 'sideways'"),
        (lambda: PageHinkley(alpha=1.1), "alpha: expected"),
        (lambda: PageHinkley(threshold=math.nan), "threshold: expected a finite number"),
        (lambda: Ddm(warm_start=-1), "warm_start: expected"),
        (lambda: Eddm(alpha=0.8), "alpha, beta: expected 0 < beta <= alpha <= 1, got 0.8, 0.9"),
        (lambda: HddmA(drift_confidence=1.0), "drift_confidence: expected"),
        (lambda: HddmW(lambda_val=0.0), "lambda_val: expected"),
        (lambda: Kswin(alpha=-0.1), "alpha: expected"),
        (lambda: Kswin(stat_size=51), "stat_size: expected a whole number 1 to 50, got 51"),
        (lambda: Kswin(seed=-1), "seed: expected a whole number 0 to"),
        (lambda: Kswin(window=[math.nan]), "window: expected finite values"),
        (lambda: ECusum(0.0), "rate: expected"),
        (lambda: ECusum(0.1, arl=1.0), "arl: expected"),
        (lambda: ESr(0.1, rates_worse=[0.1]), "rates_worse: expected"),
        (lambda: ESr(0.1, rates_worse=[]), "rates_worse: expected 1 to 64, got 0"),
    ],
)
def test_parameters_out_of_range_are_refused_with_thing_expected_and_got(
    make: Callable[[], Detector], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**64 - 1, 123456789012345])
def test_draws_are_those_of_pythons_generator(seed: int) -> None:
    rng = random.Random(seed)
    state = np.zeros(SIZE)
    seed_twister(state, 0, seed & 0xFFFFFFFF, seed >> 32)
    bounds = [1, 2, 70, 100, 2**20 + 1, 2**32 - 1] * (30 if numba.config.DISABLE_JIT else 300)
    assert [draw_below(state, 0, bound) for bound in bounds] == [
        rng.randrange(bound) for bound in bounds
    ]


def test_kswin_without_a_seed_draws_one_and_saves_it() -> None:
    first, second = Kswin(), Kswin()
    assert first.state.tobytes() != second.state.tobytes()
    again = Kswin.from_bytes(first.to_bytes())
    values = generator("unseeded").random(200)
    assert again.update(values).tolist() == first.update(values).tolist()
