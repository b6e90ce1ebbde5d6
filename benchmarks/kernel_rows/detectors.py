"""Does a detector cost less here than in river, a score less than in scikit-learn?

Expected, in CPU time a value: ADWIN 3x, Page-Hinkley 30x, HDDM 50x, and all of an endpoint
in one call still 10x. Each call of a pair gets values that it has not seen, the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from river import drift
from river.drift import binary
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from kedge_kernels import (
    Adwin,
    Ddm,
    Eddm,
    HddmA,
    HddmW,
    Kswin,
    LogLoss,
    PageHinkley,
    auprc,
    auroc,
    detectors_step,
    join_states,
)

BLOCKS = 8


class Row(NamedTuple):
    """One comparison. goal: times faster that we must be; ours, theirs: do the work once on fresh
    values; n: values in one such piece of work, to divide by.
    """

    name: str
    goal: float
    ours: Callable[[], Any]
    peer: str
    theirs: Callable[[], Any]
    n: int


# name, goal, ours, theirs, whether the values are 0 and 1, values in a block.
_PAIRS: tuple[tuple[str, float, Any, Any, bool, int], ...] = (
    ("adwin", 3.0, Adwin, drift.ADWIN, False, 5000),
    ("page_hinkley", 30.0, PageHinkley, drift.PageHinkley, False, 2000),
    ("ddm", 10.0, Ddm, binary.DDM, True, 2000),
    ("eddm", 10.0, Eddm, binary.EDDM, True, 2000),
    ("hddm_a", 50.0, HddmA, binary.HDDMA, True, 1000),
    ("hddm_w", 50.0, HddmW, binary.HDDMW, True, 1000),
    ("kswin", 10.0, lambda: Kswin(seed=1), lambda: drift.KSWIN(seed=1), False, 200),
)


def rows() -> Iterator[Row]:
    """All comparisons of detectors and scores."""
    rng = np.random.default_rng(4)
    for name, goal, ours, theirs, of_errors, n in _PAIRS:
        blocks = [_values(rng, of_errors, n) for _ in range(BLOCKS)]
        lists = [block.astype(int).tolist() if of_errors else block.tolist() for block in blocks]
        yield Row(
            f"{name} update",
            goal,
            _folding(ours(), blocks),
            "river",
            _stepping(theirs(), lists),
            n,
        )
    yield _all_detectors(rng)
    yield from _scores(rng)


def _values(rng: np.random.Generator, of_errors: bool, n: int) -> Any:
    """An error rate that goes from 5 % to 20 % in the middle, or a mean that goes from 0 to 1."""
    if of_errors:
        return (rng.random(n) < np.repeat([0.05, 0.2], n // 2)).astype(np.float64)
    return rng.normal(np.repeat([0.0, 1.0], n // 2), 1.0)


def _folding(detector: Any, blocks: list[Any]) -> Callable[[], Any]:
    fresh = cycle(blocks)
    return lambda: detector.update(next(fresh))


def _stepping(detector: Any, blocks: list[list[float]]) -> Callable[[], Any]:
    fresh = cycle(blocks)

    def work() -> int:
        detections = 0
        for x in next(fresh):
            detector.update(x)
            detections += detector.drift_detected
        return detections

    return work


def _all_detectors(rng: np.random.Generator) -> Row:
    """Two of each of the six cheap kinds; a value for each, one call."""
    pairs = 2 * [pair for pair in _PAIRS if pair[0] != "kswin"]
    states = join_states([ours() for _, _, ours, _, _, _ in pairs])
    peers = [theirs() for _, _, _, theirs, _, _ in pairs]
    blocks = (rng.random((1000, len(pairs))) < 0.1).astype(np.float64)
    fresh, fresh_lists = cycle(blocks), cycle(blocks.astype(int).tolist())

    def theirs() -> list[bool]:
        found = []
        for detector, x in zip(peers, next(fresh_lists), strict=True):
            detector.update(x)
            found.append(detector.drift_detected)
        return found

    def ours() -> Any:
        return detectors_step(next(fresh), states)

    return Row("12 detectors, one value each", 10.0, ours, "river", theirs, len(pairs))


def _scores(rng: np.random.Generator) -> Iterator[Row]:
    n = 10_000
    labels = [rng.random(n) < 0.1 for _ in range(BLOCKS)]
    scores = [np.clip(rng.normal(0.3 + 0.3 * y, 0.2), 0.001, 0.999) for y in labels]
    streaming = LogLoss()
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("auroc of a batch", auroc, roc_auc_score),
        ("auprc of a batch", auprc, average_precision_score),
        ("log loss update", streaming.update, log_loss),
    )
    for name, ours, theirs in pairs:
        yield Row(
            name, 1.0, _on(ours, labels, scores), "scikit-learn", _on(theirs, labels, scores), n
        )


def _on(function: Any, labels: list[Any], scores: list[Any]) -> Callable[[], Any]:
    fresh = cycle(zip(labels, scores, strict=True))
    return lambda: function(*next(fresh))
