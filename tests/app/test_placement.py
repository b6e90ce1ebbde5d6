"""Which models may run inline, and that a measurement is made once per model and machine."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kedge.app import placement
from kedge.app.placement import FILE_NAME, PlacementStore, inline_refusal
from kedge.core.settings import Compile, ExecutionLimits
from kedge.core.values import ModelFormat, VersionManifest
from support.fakes import DoublingExecutor, served


@pytest.fixture
def manifest(tmp_path: Path) -> VersionManifest:
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return replace(served(DoublingExecutor()).manifest, path=path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"format": ModelFormat.PYTHON}, "python may hold the GIL"),
        ({"format": ModelFormat.EXPORTED}, "torch_export may hold the GIL"),
        ({"execution": ExecutionLimits(compile=Compile.AOTINDUCTOR)}, "AOTInductor holds"),
        ({"execution": ExecutionLimits(devices=("cpu", "cpu"))}, "not cpu, cpu"),
        ({"execution": ExecutionLimits(devices=("cuda:0",))}, "not cuda:0"),
    ],
)
def test_only_torchscript_on_one_cpu_runs_inline(
    manifest: VersionManifest, change: dict[str, object], reason: str
) -> None:
    refusal = inline_refusal(replace(manifest, **change))
    assert reason in refusal
    assert bool(refusal) == bool(reason)


def test_what_was_measured_is_found_by_the_next_server(
    manifest: VersionManifest, tmp_path: Path
) -> None:
    store = PlacementStore(tmp_path / "state")
    assert store.find(manifest) is None
    store.keep(manifest, 123.45)
    assert PlacementStore(tmp_path / "state").find(manifest) == pytest.approx(123.45, abs=0.1)


def test_another_file_or_another_machine_is_measured_anew(
    manifest: VersionManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PlacementStore(tmp_path / "state")
    store.keep(manifest, 1.0)
    monkeypatch.setattr(placement, "_hardware", lambda: "another one")
    assert store.find(manifest) is None
    monkeypatch.undo()
    assert store.find(manifest) == 1.0
    assert store.find(replace(manifest, execution=ExecutionLimits(deterministic=True))) is None
    manifest.path.write_bytes(b"other weights")
    assert store.find(manifest) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"x": 1}', "\x00", '{"KEY": {"batch_us": "many"}}', '{"KEY": 7}']
)
def test_a_file_that_cannot_be_read_is_measured_anew_and_replaced(
    manifest: VersionManifest, tmp_path: Path, text: str
) -> None:
    store = PlacementStore(tmp_path)
    store.keep(manifest, 1.0)
    (key,) = json.loads((tmp_path / FILE_NAME).read_text())
    (tmp_path / FILE_NAME).write_text(text.replace("KEY", key))
    assert store.find(manifest) is None
    store.keep(manifest, 2.0)
    assert store.find(manifest) == 2.0


def test_a_place_that_cannot_be_written_is_said_and_not_fatal(
    manifest: VersionManifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file where the directory should be: also root, as tests run in a container, cannot."""
    (tmp_path / "state").write_text("")
    store = PlacementStore(tmp_path / "state")
    store.keep(manifest, 1.0)
    assert "placement.not_kept" in caplog.text
    assert store.find(manifest) is None


def test_a_full_disk_leaves_nothing_behind(
    manifest: VersionManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store = PlacementStore(tmp_path / "state")
    monkeypatch.setattr(os, "replace", is_full)
    store.keep(manifest, 1.0)
    assert not list((tmp_path / "state").iterdir())
