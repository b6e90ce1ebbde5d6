"""Load calls that bring a configuration and files: what serves, and what stays on disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from kedge.core.errors import InvalidRequest, LoadFailed, RepositoryFailed, ServeError, Unavailable
from kedge.core.values import VersionManifest
from kedge.models.parameters import ByteBudget
from support.registry_bench import Bench, executor_of
from support.repositories import outcome, write_model

TENSOR = {"name": "x", "data_type": "TYPE_FP32", "dims": [1]}
ALL = {"version_policy": {"all": {}}}


def config(**more: object) -> str:
    return json.dumps({"max_batch_size": 3, "input": [TENSOR], "output": [TENSOR], **more})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "repository").mkdir()
    return tmp_path / "repository"


@pytest.fixture
def bench(root: Path) -> Bench:
    bench = Bench(root)
    bench.start()
    return bench


def folders(bench: Bench) -> list[Path]:
    return list((bench.root.parent / "state" / "uploads" / "drafts").glob("*"))


def upload(bench: Bench, *contents: str, **more: object) -> ServeError | None:
    """Versions 1, 2, ... of model `m` with these contents."""
    files = {f"file:{i}/model.pt": text.encode() for i, text in enumerate(contents, 1)}
    return bench.load("m", config=config(**more), **files)


def content(bench: Bench, version: int = 1) -> str:
    return executor_of(bench.version("m", version)).content


def test_files_serve_a_model_that_no_target_has_until_it_is_unloaded(bench: Bench) -> None:
    assert upload(bench, "one") is None
    assert content(bench) == "one"
    assert bench.index == [("m:1", "READY", "")]
    assert len(folders(bench)) == 1
    bench.unload("m")
    bench.settle()
    assert folders(bench) == []
    assert isinstance(bench.load("m"), RepositoryFailed)
    bench.registry.close()


def test_files_take_the_place_of_a_targets_own_until_the_unload(bench: Bench) -> None:
    write_model(bench.root, "m")
    bench.load("m")
    assert content(bench) == "version 1"
    upload(bench, "uploaded")
    assert content(bench) == "uploaded"
    assert bench.load("m") is None
    assert content(bench) == "uploaded"
    bench.unload("m")
    bench.load("m")
    assert content(bench) == "version 1"
    assert bench.version("m", 1).manifest.schema.rows_max == 8
    bench.registry.close()


def test_new_files_replace_the_old_ones_on_disk_too(bench: Bench) -> None:
    upload(bench, "one")
    upload(bench, "two")
    bench.settle()
    assert content(bench) == "two"
    assert len(folders(bench)) == 1
    bench.registry.close()
    assert folders(bench) == []


def test_a_configuration_alone_goes_back_to_the_targets_files(bench: Bench) -> None:
    write_model(bench.root, "m")
    upload(bench, "uploaded")
    assert bench.load("m", config=config()) is None
    bench.settle()
    assert content(bench) == "version 1"
    assert bench.version("m", 1).manifest.schema.rows_max == 3
    assert folders(bench) == []
    bench.registry.close()


def test_files_that_do_not_load_are_removed_and_what_serves_stays(bench: Bench) -> None:
    upload(bench, "one")
    assert isinstance(upload(bench, "broken"), LoadFailed)
    assert isinstance(upload(bench, "one", max_batchsize=3), RepositoryFailed)
    bench.settle()
    assert content(bench) == "one"
    assert len(folders(bench)) == 1
    assert bench.load("m") is None
    assert content(bench) == "one"
    bench.registry.close()


def test_what_loaded_of_files_that_failed_in_part_keeps_its_files(bench: Bench) -> None:
    assert isinstance(upload(bench, "good", "broken", **ALL), LoadFailed)
    bench.settle()
    assert bench.served == ["m:1"]
    assert bench.version("m", 1).manifest.path.read_text() == "good"
    assert upload(bench, "new") is None
    bench.settle()
    assert len(folders(bench)) == 1
    bench.registry.close()


def test_the_files_are_removed_after_the_executor_is_closed(bench: Bench) -> None:
    upload(bench, "one")
    executor = executor_of(bench.version("m", 1))
    seen: list[bool] = []
    remove = bench.uploads.remove

    def look(folder: Path) -> None:
        seen.append(executor.is_closed)
        remove(folder)

    bench.uploads.remove = look  # type: ignore[method-assign]
    bench.unload("m")
    bench.settle()
    assert seen == [True]
    bench.registry.close()


def test_files_that_wait_are_bounded_in_bytes(bench: Bench) -> None:
    bench.registry._uploads_waiting = ByteBudget(10)
    loading, go_on = threading.Event(), threading.Event()

    def wait(manifest: VersionManifest) -> None:
        loading.set()
        assert go_on.wait(10)

    bench.before_load = wait
    errors: list[ServeError | None] = []
    parameters = {"config": config(), "file:1/model.pt": b"x" * 6}
    bench.registry.load("m", parameters, errors.append)
    assert loading.wait(10)
    too_many = {"config": config(), "file:1/model.pt": b"x" * 5}
    error = outcome(lambda done: bench.registry.load("n", too_many, done))
    assert isinstance(error, Unavailable)
    assert "6 bytes, wait to be written" in str(error)
    too_large = {"config": config(), "file:1/a": b"x" * 6, "file:1/b": b"x" * 5}
    error = outcome(lambda done: bench.registry.load("n", too_large, done))
    assert isinstance(error, InvalidRequest)
    go_on.set()
    bench.settle()
    assert errors == [None]
    assert bench.load("n", **too_many) is None
    bench.registry.close()
