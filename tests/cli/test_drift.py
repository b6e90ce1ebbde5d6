"""`kedge drift report` from files to table, JSON, page and exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.conftest import Kedge

Files = tuple[Path, Path, Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Reference, a file like it, and one whose first column moved."""
    rng = np.random.default_rng(0)
    paths = []
    for name, shift in (("reference", 0.0), ("same", 0.0), ("moved", 1.0)):
        columns = {"x": rng.normal(shift, 1, 500), "c": rng.choice(["a", "b"], 500)}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        paths.append(tmp_path / f"{name}.parquet")
    return paths[0], paths[1], paths[2]


def test_the_table_names_the_column_that_moved(kedge: Kedge, files: Files, tmp_path: Path) -> None:
    reference, _, moved = files
    result = kedge("drift", "report", reference, moved, "--page", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["column", "type", "test"]
    assert lines[1].split()[:2] == ["x", "number"]
    assert " drift " in lines[1]
    assert " stable " in lines[2]
    assert "1 of 2 columns drifted" in result.stderr
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_json_has_every_figure(kedge: Kedge, files: Files, tmp_path: Path) -> None:
    reference, same, _ = files
    page = tmp_path / "page.html"
    result = kedge("drift", "report", reference, same, "--page", page, "-o", "json")
    record = json.loads(result.stdout)
    assert (record["drifted"], record["reference_rows"], record["page"]) == (0, 500, str(page))
    assert {column["name"] for column in record["columns"]} == {"x", "c"}
    assert record["together"] is None


@pytest.mark.parametrize(
    ("which", "flags", "code"),
    [
        (1, ["--fail-on-drift"], 0),
        (2, ["--fail-on-drift"], 4),
        (2, [], 0),
        (2, ["--fail-on-drift", "--exclude", "x"], 0),
        (2, ["--fail-on-drift", "--size-min", "0.9"], 0),
    ],
)
def test_drift_fails_the_gate_only_when_asked(
    kedge: Kedge,
    files: Files,
    tmp_path: Path,
    which: int,
    flags: list[str],
    code: int,
) -> None:
    arguments = ["drift", "report", files[0], files[which], "--page", tmp_path / "p.html", *flags]
    assert kedge(*arguments).exit_code == code


def test_what_cannot_be_compared_is_exit_code_1_and_wrong_use_2(
    kedge: Kedge, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"no")
    result = kedge("drift", "report", files[0], tmp_path / "bad.parquet")
    assert result.exit_code == 1
    assert "not readable as Parquet" in result.stderr
    assert kedge("drift", "report", files[0], tmp_path / "absent.parquet").exit_code == 2
    assert kedge("drift", "report", files[0], files[1], "--alpha", "1").exit_code == 2
