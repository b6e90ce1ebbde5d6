"""Detectors beside river, scores beside scikit-learn.

Expected: ADWIN 3 times, Page-Hinkley 30 times and HDDM 50 times as fast as river; all detectors of
an endpoint in one call still 10 times.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import kedge_kernels as kk
from kernel_rows._contest import KEDGE, Bound, Contest, Peer

ROWS = 10_000
STEPS = 500
# key, the class here and in river, whether the values are errors, values of a turn, least ratio.
DETECTORS: tuple[tuple[str, Any, str, bool, int, float], ...] = (
    ("adwin", kk.Adwin, "drift.ADWIN", False, 20_000, 3),
    ("page_hinkley", kk.PageHinkley, "drift.PageHinkley", False, 10_000, 30),
    ("ddm", kk.Ddm, "drift.binary.DDM", True, 10_000, 0),
    ("eddm", kk.Eddm, "drift.binary.EDDM", True, 10_000, 0),
    ("hddm_a", kk.HddmA, "drift.binary.HDDMA", True, 10_000, 50),
    ("hddm_w", kk.HddmW, "drift.binary.HDDMW", True, 10_000, 50),
    ("kswin", lambda: kk.Kswin(seed=1), "drift.KSWIN", False, 300, 0),
)
CHEAP = [row for row in DETECTORS if row[0] != "kswin"]

Timed = tuple[Callable[[], object], int]


def contests() -> Iterator[Contest]:
    """The detectors' rows of the table of goals, then what has no goal."""
    for key, ours, theirs, of_errors, count, ratio_min in DETECTORS:
        yield Contest(
            key,
            f"{key.upper()} over a stream that changes",
            "ns an update",
            {
                KEDGE: Peer(lambda turn, m=ours, e=of_errors, n=count: folding(turn, m, e, n)),
                "river": Peer(lambda turn, m=theirs, e=of_errors, n=count: stepping(turn, m, e, n)),
            },
            (Bound(peer="river", ratio_min=ratio_min),) if ratio_min else (),
        )
    yield Contest(
        "detectors_step",
        "24 detectors, one value for each, one call",
        "ns an update",
        {KEDGE: Peer(all_in_one_call), "river": Peer(all_in_a_loop)},
        (Bound(peer="river", ratio_min=10),),
    )
    for name in ("auroc", "auprc"):
        theirs = {"auroc": "roc_auc_score", "auprc": "average_precision_score"}[name]
        yield Contest(
            name,
            f"{name.upper()} of {ROWS:,} rows",
            "ns a value",
            {
                KEDGE: Peer(lambda turn, n=name: scoring(turn, getattr(kk, n))),
                "scikit-learn": Peer(lambda turn, n=theirs: scoring(turn, sklearn_metric(n))),
            },
        )
    yield Contest(
        "log_loss",
        f"log loss of {ROWS:,} more rows",
        "ns a value",
        {
            KEDGE: Peer(lambda turn: scoring(turn, kk.LogLoss().update)),
            "scikit-learn": Peer(lambda turn: scoring(turn, sklearn_metric("log_loss"))),
        },
    )


def stream(turn: int, of_errors: bool, count: int) -> np.ndarray[Any, Any]:
    """An error rate that goes from 5 % to 20 % in the middle, or a mean that goes from 0 to 1."""
    rng = np.random.default_rng([turn, count])
    if of_errors:
        return (rng.random(count) < np.repeat([0.05, 0.2], count // 2)).astype(np.float64)
    return rng.normal(np.repeat([0.0, 1.0], count // 2), 1.0)


def river(name: str) -> Any:
    """The class of this path under `river`, imported when it is its turn."""
    path, _, cls = name.rpartition(".")
    return getattr(importlib.import_module(f"river.{path}"), cls)


def sklearn_metric(name: str) -> Any:
    return getattr(importlib.import_module("sklearn.metrics"), name)


def folding(turn: int, make: Any, of_errors: bool, count: int) -> Timed:
    values, detector = stream(turn, of_errors, count), make()
    return lambda: detector.update(values), count


def stepping(turn: int, name: str, of_errors: bool, count: int) -> Timed:
    """River's usual loop, on Python's own numbers, which it takes fastest."""
    values = stream(turn, of_errors, count)
    listed: list[Any] = values.astype(int).tolist() if of_errors else values.tolist()
    cls = river(name)
    detector = cls(seed=1) if name.endswith("KSWIN") else cls()

    def run() -> list[int]:
        found = []
        for i, x in enumerate(listed):
            detector.update(x)
            if detector.drift_detected:
                found.append(i)
        return found

    return run, count


def errors(turn: int) -> np.ndarray[Any, Any]:
    """A value for each of 24 detectors, STEPS times."""
    rng = np.random.default_rng([turn, 24])
    return (rng.random((STEPS, 4 * len(CHEAP))) < 0.1).astype(np.float64)


def all_in_one_call(turn: int) -> Timed:
    values = errors(turn)
    states = kk.join_states([make() for _, make, *_ in 4 * CHEAP])

    def run() -> None:
        for x in values:
            kk.detectors_step(x, states)

    return run, values.size


def all_in_a_loop(turn: int) -> Timed:
    values = errors(turn)
    detectors = [river(name)() for _, _, name, *_ in 4 * CHEAP]
    listed = values.astype(int).tolist()

    def run() -> int:
        found = 0
        for row in listed:
            for detector, x in zip(detectors, row, strict=True):
                detector.update(x)
                found += detector.drift_detected
        return found

    return run, values.size


def scoring(turn: int, function: Any) -> Timed:
    rng = np.random.default_rng([turn, ROWS])
    labels = rng.random(ROWS) < 0.1
    scores = np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0.001, 0.999)
    return lambda: function(labels, scores), ROWS
