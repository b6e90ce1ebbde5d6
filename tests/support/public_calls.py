"""Every public function of kedge_kernels called with the types that users have: what must find its
kernels in a warm cache. Every file support/public_calls*.py has such a `call_everything`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import kedge_kernels as kk


def call_everything() -> None:
    """Each function at least once; float32 and float64, read-only, transposed, lists, integers."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for bins in (10, 50):
            call_sketches(rng.normal(size=(2000, 20)).astype(dtype), bins)
    call_categories()
    call_counts()
    call_samples(rng)
    call_multivariate(rng)


def forms(values: np.ndarray[Any, Any]) -> list[Any]:
    """The same rows in other memory."""
    read_only = values.copy()
    read_only.setflags(write=False)
    return [
        values,
        values[:1],
        read_only,
        read_only[:1],
        np.asfortranarray(values),
        values.tolist(),
    ]


def call_sketches(values: np.ndarray[Any, Any], bins: int) -> None:
    reference = kk.Reference.from_data(values, bins)
    windows = kk.Windows(reference, 2)
    for form in forms(values):
        kk.update(form, reference, windows.current)
        windows.advance()
    sketch = windows.last(2)
    kk.merge(sketch, windows.current)
    reference = kk.Reference.from_bytes(reference.to_bytes())
    sketch = kk.Sketch.from_bytes(sketch.to_bytes(), reference)
    batch = kk.sketch_to_arrow(sketch, [str(i) for i in range(20)])
    kk.sketch_from_arrow(batch, reference)
    out = np.empty((20, len(kk.BINNED_STATS)))
    kk.binned_stats(reference.counts, sketch.counts, out)
    kk.binned_stats(sketch.counts, reference.counts, out)
    many = np.ones((3000, 3), np.int64)
    kk.binned_stats(many, many, np.empty((3000, len(kk.BINNED_STATS))))
    kk.chi2_p_values(reference.counts, sketch.counts)
    quantiles = kk.QuantileSketch(20)
    quantiles.update(values)
    quantiles.wasserstein(quantiles)
    columns = kk.sorted_columns(values)
    columns.setflags(write=False)
    for form in forms(values):
        kk.ks_w1_exact(columns, form)


def call_categories() -> None:
    reference = kk.CategoryReference.from_values(["a", "b", 1])
    sketch = kk.CategorySketch(reference)
    kk.update_categories(["a", None], reference, sketch)
    kk.update_categories(np.arange(3, dtype=np.int8), reference, sketch)
    kk.merge_categories(sketch, sketch)


def call_counts() -> None:
    read_only = np.frombuffer(np.array([30, 20, 40]).tobytes(), np.int64)
    for a in ([30, 20, 40], read_only, np.array([30.0, 20.0, 40.0]), read_only.astype(np.float32)):
        for function in (kk.psi, kk.kl, kk.js, kk.hellinger):
            function(a, [20, 30, 40], 0.001)
        for test in (kk.chi2_two_sample, kk.g_test, kk.psi_test, kk.ks_binned):
            test(a, [20, 30, 40])
    kk.psi_threshold(10, 100, 100)
    for procedure in (kk.benjamini_hochberg, kk.benjamini_yekutieli, kk.e_bh):
        procedure([0.1], 0.05)


def call_samples(rng: np.random.Generator) -> None:
    for n, m in ((5, 5), (5, 4), (30, 25), (12_000, 100), (12_000, 9000)):
        a, b = rng.normal(size=n), rng.normal(size=m)
        frozen = a.astype(np.float32)
        frozen.setflags(write=False)
        for first in (a, frozen, a.tolist(), np.round(a).astype(int)):
            kk.ks_2samp(first, b)
            kk.cramer_von_mises(first, b)
            kk.anderson_darling(first, b)
            kk.wasserstein_1d(first, b)
    a, b = rng.normal(size=100), rng.normal(size=90)
    kk.evidently_psi(a, b), kk.evidently_kl(a, b), kk.evidently_js(a, b)
    kk.evidently_hellinger(a, b), kk.evidently_wasserstein(a, b)
    kk.evidently_chi2(["a", "b"], ["a", "b"])


def call_multivariate(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)).astype(np.float32)
    kk.pca_drift(kk.PcaReference.from_data(a), b)
    kk.classifier_two_sample(a, b)
    kk.mmd_linear(a, b)
