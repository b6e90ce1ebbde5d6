"""What moved between two tables: a test and a size for each column, a verdict over all of them.

Pure: arrays in, values out. Every test is of two samples; its p-value counts how often windows
without drift differ as much. Benjamini-Hochberg over the columns then bounds the expected share of
false names among the named ones by alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from kedge.monitoring.drift.pictures import Picture, bars, histogram
from kedge.monitoring.drift.tables import ColumnPair, Kind, TablePair
from kedge_kernels import (
    CategoryReference,
    CategorySketch,
    PcaReference,
    Reference,
    Sketch,
    benjamini_hochberg,
    chi2_two_sample,
    classifier_two_sample,
    hellinger,
    ks_2samp,
    pca_drift,
    psi,
    update,
    update_categories,
    wasserstein_1d,
)

# A category that expects fewer rows in either file joins the others that do: below it, the
# chi-squared distribution is a bad approximation.
EXPECTED_MIN = 5.0
# Multivariate tests take so many rows of each file, at random: more change no verdict.
ROWS_MAX = 20_000
ROWS_MIN = 50
# Empty bins count as this share, so that PSI stays finite.
PSI_EPS = 1e-4


class Verdict(StrEnum):
    """What is said of a column."""

    DRIFT = "drift"
    STABLE = "stable"
    NO_RESULT = "no result"


@dataclass(frozen=True)
class ColumnDrift:
    """One column. statistic and p_value: of `test`, on the values that are present.

    missing_p_value: of the difference of the missing shares, nan if nothing is missing.
    strength: Hellinger distance of the binned values, missing ones a bin; 0 to 1, for all kinds.
    size: for people: a number's Wasserstein distance in standard deviations of the reference (nan
    if that is constant); for categories, the share of rows that would have to change.
    """

    name: str
    kind: Kind
    test: str
    statistic: float
    p_value: float
    missing_p_value: float
    verdict: Verdict
    strength: float
    size: float
    psi: float
    missing_reference: float
    missing_current: float
    picture: Picture

    @property
    def combined_p_value(self) -> float:
        """Of both tests, by Bonferroni: what the verdict is made from."""
        found = [p for p in (self.p_value, self.missing_p_value) if not math.isnan(p)]
        return min(1.0, len(found) * min(found)) if found else math.nan


@dataclass(frozen=True)
class Together:
    """All number columns at once; None in place of it with less than two columns or 50 rows.

    auc, low, high, auc_p_value: a classifier that tells the files apart. error_ratio,
    error_p_value: how much worse the reference's main directions describe the current rows.
    """

    columns: int
    auc: float
    low: float
    high: float
    auc_p_value: float
    error_ratio: float
    error_p_value: float


@dataclass(frozen=True)
class DriftReport:
    """Columns, most drifted first."""

    reference_rows: int
    current_rows: int
    alpha: float
    size_min: float
    columns: tuple[ColumnDrift, ...]
    left_out: dict[str, str]
    together: Together | None

    @property
    def drifted(self) -> int:
        """How many columns drifted."""
        return sum(column.verdict is Verdict.DRIFT for column in self.columns)


def compare(tables: TablePair, alpha: float = 0.05, size_min: float = 0.0) -> DriftReport:
    """alpha: the false discovery rate, in (0, 1). size_min: a strength, 0 to 1, below which a
    column is stable however sure its difference is.
    """
    found = [_column(pair) for pair in tables.columns]
    rejected = benjamini_hochberg([column.combined_p_value for column in found], alpha)
    judged = [
        _judged(column, bool(is_rejected), size_min)
        for column, is_rejected in zip(found, rejected, strict=True)
    ]
    order = list(Verdict)
    judged.sort(key=lambda column: (order.index(column.verdict), -column.strength, column.name))
    rows = (tables.reference_rows, tables.current_rows)
    return DriftReport(*rows, alpha, size_min, tuple(judged), tables.left_out, _together(tables))


def _judged(column: ColumnDrift, is_rejected: bool, size_min: float) -> ColumnDrift:
    verdict = Verdict.DRIFT if is_rejected and column.strength >= size_min else Verdict.STABLE
    if math.isnan(column.combined_p_value):
        verdict = Verdict.NO_RESULT
    return ColumnDrift(**{**vars(column), "verdict": verdict})


def _column(pair: ColumnPair) -> ColumnDrift:
    return _numbers(pair) if pair.kind is Kind.NUMBER else _categories(pair)


def _numbers(pair: ColumnPair) -> ColumnDrift:
    reference, current = np.asarray(pair.reference), np.asarray(pair.current)
    bins = Reference.from_data(reference[:, None])
    sketch = Sketch(bins)
    update(current[:, None], bins, sketch)
    statistic, p_value = ks_2samp(reference, current)
    spread = math.sqrt(float(_sketch_of(bins).variances[0]))
    distance = wasserstein_1d(reference, current)[0]
    return ColumnDrift(
        name=pair.name,
        kind=pair.kind,
        test="Kolmogorov-Smirnov",
        statistic=statistic,
        p_value=p_value,
        missing_p_value=_missing_p_value(bins.counts[0], sketch.counts[0]),
        verdict=Verdict.NO_RESULT,
        strength=hellinger(bins.counts[0], sketch.counts[0]),
        size=distance / spread if spread > 0 else math.nan,
        psi=psi(bins.counts[0], sketch.counts[0], PSI_EPS),
        missing_reference=float(bins.counts[0, -1] / len(reference)),
        missing_current=float(sketch.counts[0, -1] / len(current)),
        picture=histogram(reference, current),
    )


def _categories(pair: ColumnPair) -> ColumnDrift:
    reference = CategoryReference.from_values(pair.reference)
    sketch = CategorySketch(reference)
    update_categories(pair.current, reference, sketch)
    a, b = reference.counts, sketch.counts
    statistic, p_value = chi2_two_sample(*_rare_joined(a[:-1], b[:-1]))
    shares_a, shares_b = a / a.sum(), b / b.sum()
    return ColumnDrift(
        name=pair.name,
        kind=pair.kind,
        test="chi-squared",
        statistic=statistic,
        p_value=p_value,
        missing_p_value=_missing_p_value(a, b),
        verdict=Verdict.NO_RESULT,
        strength=hellinger(a, b),
        size=float(np.abs(shares_a - shares_b).sum() / 2),
        psi=psi(a, b, PSI_EPS),
        missing_reference=float(shares_a[-1]),
        missing_current=float(shares_b[-1]),
        picture=bars(reference.categories, a, b),
    )


def _sketch_of(reference: Reference) -> Sketch:
    """The reference's own sketch, for its moments."""
    sketch = Sketch(reference)
    sketch.counts[:], sketch.moments[:] = reference.counts, reference.moments
    return sketch


def _missing_p_value(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Of the last bin against all others."""
    if a[-1] + b[-1] == 0:
        return math.nan
    return chi2_two_sample([a[:-1].sum(), a[-1]], [b[:-1].sum(), b[-1]])[1]


def _rare_joined(
    a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both without the bins that expect too little; their sum is a bin. Which ones these are
    depends on the sum of both only, so the test stays one.
    """
    total_a, total_b = max(int(a.sum()), 1), max(int(b.sum()), 1)
    expected = (a + b) * (min(total_a, total_b) / (total_a + total_b))
    rare = expected < EXPECTED_MIN
    joined = [np.append(counts[~rare], counts[rare].sum()) for counts in (a, b)]
    return joined[0], joined[1]


def _together(tables: TablePair) -> Together | None:
    numbers = [pair for pair in tables.columns if pair.kind is Kind.NUMBER]
    if len(numbers) < 2 or min(tables.reference_rows, tables.current_rows) < ROWS_MIN:
        return None
    generator = np.random.default_rng(0)
    reference = np.column_stack([np.asarray(pair.reference) for pair in numbers])
    current = np.column_stack([np.asarray(pair.current) for pair in numbers])
    reference, current = (_some_rows(data, generator) for data in (reference, current))
    classifier = classifier_two_sample(reference, current)
    pca = pca_drift(PcaReference.from_data(reference), current)
    return Together(len(numbers), *classifier, *pca)


def _some_rows(data: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    if len(data) <= ROWS_MAX:
        return data
    return data[generator.choice(len(data), ROWS_MAX, replace=False)]
