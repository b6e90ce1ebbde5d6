"""Sketches and drift tests against DataSketches, NumPy, SciPy, Evidently and whylogs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from _venvs import PeerAbsent, venv_for

import kedge_kernels as kk
from kernel_rows._contest import KEDGE, Bound, Contest, Peer, Turn

FEATURES = 50
TRAINING_ROWS = 20_000
Batches = list[np.ndarray[Any, Any]]
Timed = tuple[Callable[[], object], int]


def contests() -> Iterator[Contest]:
    """The rows of the table of goals."""
    yield Contest(
        "update_1",
        "fold 1 row of 50 columns",
        "µs",
        {
            KEDGE: Peer(lambda turn: folding(turn, 1, 400)),
            "KLL vector": Peer(lambda turn: kll(turn, 1, 400)),
            "NumPy": Peer(lambda turn: numpy_folding(turn, 1, 10)),
            "whylogs": Peer(whylogs, rounds_max=3),
        },
        (Bound(cost_max=1.5),),
    )
    for rows, batches, bounds in (
        (64, 100, (Bound(cost_max=3.5), Bound(peer="KLL vector", ratio_min=10))),
        (1024, 10, ()),
    ):
        yield Contest(
            f"update_{rows}",
            f"fold {rows:,} rows of 50 columns",
            "ns a value",
            {
                KEDGE: Peer(per_value(folding, rows, batches)),
                "KLL vector": Peer(per_value(kll, rows, batches)),
                "NumPy": Peer(per_value(numpy_folding, rows, 3)),
            },
            bounds,
        )
    yield Contest(
        "update_64_bins_50",
        "the same 64 rows into 50 bins (look-up table)",
        "ns a value",
        {
            KEDGE: Peer(per_value(lambda t, r, b: folding(t, r, b, bins=50), 64, 100)),
            "NumPy": Peer(per_value(lambda t, r, b: numpy_folding(t, r, b, bins=50), 64, 3)),
        },
    )
    yield Contest(
        "merge",
        "merge two sketches of 50 columns",
        "µs",
        {KEDGE: Peer(merging), "KLL vector": Peer(kll_merging)},
        (Bound(cost_max=20),),
    )
    yield Contest(
        "binned_stats",
        "7 statistics of 50 binned columns",
        "µs",
        {
            KEDGE: Peer(binned),
            "SciPy": Peer(scipy_binned),
            "Evidently report of 64 rows": Peer(evidently_report, rounds_max=2),
        },
        (Bound(cost_max=40),),
    )
    yield Contest(
        "ks_w1_exact",
        "KS and Wasserstein of 5,000 against 5,000 values, 50 columns",
        "ns a value",
        {KEDGE: Peer(exact), "SciPy": Peer(scipy_exact, rounds_max=5)},
        (Bound(peer="SciPy", ratio_min=15),),
    )
    yield Contest(
        "ks_2samp_p",
        "KS test with exact p-value, 1,000 against 900 values",
        "µs",
        {
            KEDGE: Peer(lambda turn: one_test(turn, kk.ks_2samp)),
            "SciPy": Peer(lambda turn: one_test(turn, scipy_stats().ks_2samp)),
        },
    )
    yield Contest(
        "chi2_two_sample",
        "chi-squared test of 20 bins",
        "µs",
        {
            KEDGE: Peer(lambda turn: count_test(turn, kk.chi2_two_sample)),
            "SciPy": Peer(
                lambda turn: count_test(
                    turn,
                    lambda a, b: scipy_stats().chi2_contingency(np.stack([a, b]), correction=False),
                )
            ),
        },
    )


def per_value(
    make: Callable[[int, int, int], tuple[Callable[[], object], int]], rows: int, batches: int
) -> Callable[[int], Turn]:
    """The cost of a batch divided by its values."""

    def prepare(turn: int) -> Turn:
        run, operations = make(turn, rows, batches)
        return run, operations * rows * FEATURES

    return prepare


@cache
def reference(bins: int) -> kk.Reference:
    """Of normal training data."""
    rng = np.random.default_rng(0)
    return kk.Reference.from_data(rng.normal(size=(TRAINING_ROWS, FEATURES)).astype("f4"), bins)


def fresh(turn: int, rows: int, batches: int, shift: float = 0.0) -> Batches:
    """float32 rows that no other turn has."""
    rng = np.random.default_rng([1, turn, rows])
    return [rng.normal(shift, 1, (rows, FEATURES)).astype("f4") for _ in range(batches)]


def folding(turn: int, rows: int, batches: int, bins: int = 10) -> Timed:
    of = reference(bins)
    sketch, data = kk.Sketch(of), fresh(turn, rows, batches)

    def run() -> None:
        for batch in data:
            kk.update(batch, of, sketch)

    return run, batches


def kll(turn: int, rows: int, batches: int) -> Timed:
    import datasketches

    vector, data = (
        datasketches.vector_of_kll_floats_sketches(200, FEATURES),
        fresh(turn, rows, batches),
    )

    def run() -> None:
        for batch in data:
            vector.update(batch)

    return run, batches


def numpy_folding(turn: int, rows: int, batches: int, bins: int = 10) -> Timed:
    """The same counts and moments, column by column with searchsorted."""
    of = reference(bins)
    counts, moments = np.zeros_like(of.counts), np.array(of.moments)
    data = fresh(turn, rows, batches)

    def run() -> None:
        for batch in data:
            missing = np.isnan(batch)
            for feature in range(FEATURES):
                places = np.searchsorted(of.edges[feature], batch[:, feature], side="right")
                places[missing[:, feature]] = bins
                counts[feature] += np.bincount(places, minlength=bins + 1)
            shifted = np.where(np.isfinite(batch), batch - of.centers, 0.0)
            moments[0] += shifted.sum(axis=0)
            moments[1] += (shifted * shifted).sum(axis=0)
            moments[2] = np.fmin(moments[2], np.fmin.reduce(batch))
            moments[3] = np.fmax(moments[3], np.fmax.reduce(batch))

    return run, batches


WHYLOGS = """
import time, numpy as np, whylogs as why
data = np.random.default_rng().normal(size=(20, 50))
rows = [{f"c{i}": float(value) for i, value in enumerate(row)} for row in data]
profile = why.log(row=rows[0]).profile()
start = time.process_time_ns()
for row in rows[1:]:
    profile.track(row=row)
print((time.process_time_ns() - start) / 19)
"""


def whylogs(turn: int) -> Turn:
    """In an environment and a process of its own, which measures itself."""
    try:
        python = venv_for("whylogs") / "bin" / "python"
    except PeerAbsent as error:
        raise ImportError(str(error)) from None
    environment = {**os.environ, "WHYLOGS_NO_ANALYTICS": "True"}
    done = subprocess.run(
        [python, "-c", WHYLOGS], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise ImportError(f"whylogs failed: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout) / 1e9


def merging(turn: int) -> Turn:
    total, other = kk.Sketch(reference(10)), kk.Sketch(reference(10))
    kk.update(fresh(turn, 64, 1)[0], reference(10), other)

    def run() -> None:
        for _ in range(500):
            kk.merge(total, other)

    return run, 500


def kll_merging(turn: int) -> Turn:
    import datasketches

    total, *others = (datasketches.vector_of_kll_floats_sketches(200, FEATURES) for _ in range(21))
    for vector, batch in zip(others, fresh(turn, 1000, 20), strict=True):
        vector.update(batch)

    def run() -> None:
        for vector in others:
            total.merge(vector)

    return run, len(others)


def windows(turn: int) -> list[np.ndarray[Any, Any]]:
    """Counts of 20 current windows."""
    counts = []
    for batch in fresh(turn, 1000, 20, shift=0.1):
        sketch = kk.Sketch(reference(10))
        kk.update(batch, reference(10), sketch)
        counts.append(sketch.counts)
    return counts


def binned(turn: int) -> Turn:
    data, expected = windows(turn), reference(10).counts
    out = np.empty((FEATURES, len(kk.BINNED_STATS)))

    def run() -> None:
        for counts in data:
            kk.binned_stats(expected, counts, out)

    return run, len(data)


def scipy_binned(turn: int) -> Turn:
    """The same seven statistics by SciPy and NumPy, column by column."""
    from scipy.spatial.distance import jensenshannon

    stats, data, expected = scipy_stats(), windows(turn)[:1], reference(10).counts

    def run() -> None:
        for counts in data:
            for a, b in zip(expected, counts, strict=True):
                present = (a + b) > 0
                p, q = a / a.sum(), b / b.sum()
                stats.entropy(p, q)
                np.sum((p - q) * np.log(np.maximum(p, 1e-9) / np.maximum(q, 1e-9)))
                jensenshannon(p, q)
                np.sqrt(0.5 * np.sum((np.sqrt(p) - np.sqrt(q)) ** 2))
                table = np.stack([a, b])[:, present]
                stats.chi2_contingency(table, correction=False)
                stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
                np.abs(np.cumsum(p[:-1]) - np.cumsum(q[:-1])).max()

    return run, len(data)


def evidently_report(turn: int) -> Turn:
    import pandas as pd
    from pandas.core.dtypes import common

    # Evidently 0.7 imports it for a test of data types; pandas 3 no longer has it.
    vars(common).setdefault("infer_dtype_from_object", type)
    from evidently import Report
    from evidently.presets import DataDriftPreset

    names = [f"c{i}" for i in range(FEATURES)]
    before, after = (pd.DataFrame(rows, columns=names) for rows in fresh(turn, 64, 2))
    return lambda: Report([DataDriftPreset(method="psi")]).run(after, before).dict(), 1


def exact(turn: int) -> Turn:
    first, second = fresh(turn, 5000, 2, shift=0.1)
    columns = kk.sorted_columns(first)
    return lambda: kk.ks_w1_exact(columns, second), 2 * 5000 * FEATURES


def scipy_exact(turn: int) -> Turn:
    stats = scipy_stats()
    first, second = fresh(turn, 5000, 2, shift=0.1)
    used = 5

    def run() -> None:
        for feature in range(used):
            a, b = first[:, feature], second[:, feature]
            stats.ks_2samp(a, b, method="asymp")
            stats.wasserstein_distance(a, b)

    return run, 2 * 5000 * used


def one_test(turn: int, test: Callable[[Any, Any], object]) -> Turn:
    rng = np.random.default_rng([2, turn])
    pairs = [(rng.normal(size=1000), rng.normal(0.05, 1, 900)) for _ in range(10)]
    return lambda: [test(a, b) for a, b in pairs], len(pairs)


def count_test(turn: int, test: Callable[[Any, Any], object]) -> Turn:
    rng = np.random.default_rng([3, turn])
    pairs = [(rng.integers(1, 100, 20), rng.integers(1, 100, 20)) for _ in range(50)]
    return lambda: [test(a, b) for a, b in pairs], len(pairs)


def scipy_stats() -> Any:
    from scipy import stats

    return stats
