"""Columns compared: against SciPy, against real Evidently on the same Parquet, and promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from kedge.monitoring.drift.compare import DriftReport, Verdict, compare
from kedge.monitoring.drift.tables import Kind, TableError, read_pair
from support.floats import commit_seed
from support.real_evidently import drift_score


def report_of(
    folder: Path, reference: dict[str, Any], current: dict[str, Any], **options: Any
) -> DriftReport:
    for name, columns in (("reference", reference), ("current", current)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    tables = read_pair(folder / "reference.parquet", folder / "current.parquet")
    return compare(tables, **options)


def data(rng: np.random.Generator, rows: int, shift: float = 0.0) -> dict[str, Any]:
    some_missing = rng.normal(size=rows)
    some_missing[rng.uniform(size=rows) < 0.1 + shift / 4] = np.nan
    chances = [0.5 - shift / 4, 0.3, 0.2 + shift / 4]
    return {
        "number": rng.normal(shift, 1, rows),
        "skewed": rng.lognormal(size=rows),
        "missing": some_missing,
        "text": rng.choice(["a", "b", "c"], rows, p=chances),
        "code": rng.integers(0, 5, rows),
        "flag": rng.uniform(size=rows) < 0.3,
        "nothing": pa.nulls(rows, pa.float64()),
        "constant": np.full(rows, 2.5),
    }


def test_every_kind_of_column_is_compared_as_scipy_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = data(rng, 3000), data(rng, 800, 0.5)
    columns = {column.name: column for column in report_of(tmp_path, a, b).columns}
    for name in ("number", "skewed"):
        expected = stats.ks_2samp(a[name], b[name])
        found = columns[name]
        assert_allclose((found.statistic, found.p_value), (expected.statistic, expected.pvalue))
        distance = stats.wasserstein_distance(a[name], b[name]) / np.std(a[name])
        assert_allclose(found.size, distance)
        assert math.isnan(found.missing_p_value)
    table = pd.crosstab(
        np.repeat([0, 1], [3000, 800]), np.concatenate([a["text"], b["text"]])
    ).to_numpy()
    expected = stats.chi2_contingency(table, correction=False)
    assert_allclose((columns["text"].statistic, columns["text"].p_value), expected[:2], rtol=1e-9)
    assert_allclose(columns["text"].size, np.abs(table[0] / 3000 - table[1] / 800).sum() / 2)
    missing = [[np.isnan(x["missing"]).sum(), (~np.isnan(x["missing"])).sum()] for x in (a, b)]
    expected = stats.chi2_contingency(missing, correction=False)
    assert_allclose(columns["missing"].missing_p_value, expected[1])
    assert_allclose(columns["missing"].combined_p_value, 2 * expected[1])
    verdicts = {name: column.verdict for name, column in columns.items()}
    drifted = {name for name, verdict in verdicts.items() if verdict is Verdict.DRIFT}
    assert {"number", "missing", "text"} <= drifted <= {"number", "missing", "text", "skewed"}
    assert verdicts["constant"] is Verdict.STABLE
    kinds = {name for name, column in columns.items() if column.kind is Kind.CATEGORY}
    assert kinds == {"text", "code", "flag"}


def test_a_column_that_is_all_missing_in_both_is_stable(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = report_of(tmp_path, data(rng, 100), data(rng, 100)).columns
    nothing = next(column for column in columns if column.name == "nothing")
    assert (nothing.missing_reference, nothing.missing_current) == (1.0, 1.0)
    assert nothing.verdict is Verdict.STABLE
    assert nothing.p_value != nothing.p_value


def test_columns_are_sorted_by_verdict_and_strength(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = report_of(tmp_path, data(rng, 2000), data(rng, 2000, 0.5)).columns
    for verdict in (Verdict.DRIFT, Verdict.STABLE):
        strengths = [column.strength for column in columns if column.verdict is verdict]
        assert strengths == sorted(strengths, reverse=True)
    assert columns[0].verdict is Verdict.DRIFT
    assert columns[-1].verdict is Verdict.STABLE


def test_a_difference_below_the_least_size_is_stable_however_sure_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = {"x": rng.normal(size=100_000)}, {"x": rng.normal(0.05, 1, size=100_000)}
    assert report_of(tmp_path, a, b).drifted == 1
    assert report_of(tmp_path, a, b, size_min=0.05).drifted == 0


def test_windows_without_drift_name_a_column_seldom(tmp_path: Path) -> None:
    rng = np.random.default_rng(commit_seed())
    windows, named = 40, 0
    reference = data(rng, 2000)
    reference |= {f"more {i}": rng.normal(size=2000) for i in range(10)}
    for _ in range(windows):
        current = data(rng, 300) | {f"more {i}": rng.normal(size=300) for i in range(10)}
        named += report_of(tmp_path, reference, current).drifted > 0
    # With one reference for all windows they are not independent: twice the rate is allowed for.
    assert named <= stats.binom.isf(1e-6, windows, 0.1)


def test_all_numbers_together_show_what_no_column_shows(tmp_path: Path) -> None:
    rng = np.random.default_rng(commit_seed())

    def related(rows: int, sign: float) -> dict[str, Any]:
        x = rng.normal(size=rows)
        return {"x": x, "y": sign * x + 0.3 * rng.normal(size=rows), "z": rng.normal(size=rows)}

    found = report_of(tmp_path, related(2000, 1.0), related(1000, -1.0))
    assert found.together is not None
    assert found.together.columns == 3
    assert found.together.error_p_value < 1e-6
    assert found.together.error_ratio > 1.2
    same = report_of(tmp_path, related(2000, 1.0), related(1000, 1.0)).together
    assert same is not None
    assert same.error_p_value > 1e-6
    assert report_of(tmp_path, {"x": [1.0] * 99}, {"x": [1.0] * 99}).together is None


@pytest.mark.parametrize(("name", "method"), [("number", "ks"), ("skewed", "ks")])
def test_evidently_finds_the_same_p_values_in_the_same_parquet(
    tmp_path: Path, name: str, method: str
) -> None:
    rng = np.random.default_rng(1)
    found = report_of(tmp_path, data(rng, 3000), data(rng, 900, 0.1))
    frames = [pd.read_parquet(tmp_path / f"{side}.parquet") for side in ("reference", "current")]
    ours = next(column for column in found.columns if column.name == name)
    reference, current = (frame[name] for frame in frames)
    assert_allclose(ours.p_value, drift_score(method, reference, current, categorical=False))
    assert_allclose(ours.size, drift_score("wasserstein", reference, current, categorical=False))


def test_evidentlys_own_report_of_the_same_parquet_agrees(tmp_path: Path) -> None:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    rng = np.random.default_rng(2)
    names = ["number", "skewed", "text"]
    a, b = ({name: data(rng, 2000, shift)[name] for name in names} for shift in (0.0, 0.4))
    found = {column.name: column for column in report_of(tmp_path, a, b).columns}
    frames = [pd.read_parquet(tmp_path / f"{side}.parquet") for side in ("reference", "current")]
    preset = DataDriftPreset(num_method="ks", cat_method="hellinger")
    result = Report([preset]).run(frames[1], frames[0]).dict()
    values = {m["config"].get("column"): m["value"] for m in result["metrics"]}
    for name in ("number", "skewed"):
        assert_allclose(values[name], found[name].p_value, rtol=1e-9)
    assert_allclose(values["text"], found["text"].strength, rtol=1e-9)


@pytest.mark.parametrize(
    ("reference", "current", "message"),
    [
        ({"x": [1.0]}, {"y": [1.0]}, "no column can be compared"),
        ({"x": [1.0]}, {"x": ["a"]}, "x: double in the reference, string in the current file"),
        ({"x": [[1]]}, {"x": [[1]]}, "values of type list<.*> are not compared"),
        ({"x": pa.array([], pa.int64())}, {"x": [1]}, "reference.parquet: has no rows"),
    ],
)
def test_files_that_cannot_be_compared_say_why(
    tmp_path: Path, reference: dict[str, Any], current: dict[str, Any], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        report_of(tmp_path, reference, current)


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(TableError, match=r"x\.parquet: not readable as Parquet"):
        read_pair(tmp_path / "x.parquet", tmp_path / "x.parquet")


def test_columns_of_one_file_only_and_others_are_left_out_with_a_reason(tmp_path: Path) -> None:
    when = pa.array([0], pa.timestamp("ms"))
    frame = pd.DataFrame({"x": [1.5], "old": [1]}, index=[7])
    frame.to_parquet(tmp_path / "a.parquet")
    pq.write_table(
        pq.read_table(tmp_path / "a.parquet").append_column("when", when).drop_columns(["old"]),
        tmp_path / "b.parquet",
    )
    pq.write_table(
        pq.read_table(tmp_path / "a.parquet").append_column("when", when), tmp_path / "a.parquet"
    )
    tables = read_pair(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert tables.left_out == {
        "old": "only in the reference",
        "when": "values of type timestamp[ms] are not compared",
        "__index_level_0__": "row numbers of pandas",
    }
    with pytest.raises(TableError, match="x: excluded"):
        read_pair(tmp_path / "a.parquet", tmp_path / "b.parquet", exclude=["x"])
