"""Start, load parameters, polls and bounds: what is served and what the index says."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from kedge.core.errors import (
    Internal,
    InvalidRequest,
    RepositoryFailed,
    ServeError,
    ShuttingDown,
    Unavailable,
)
from kedge.core.values import Catalog, VersionManifest, VersionState
from kedge.models.registry import CHANGES_WAITING_MAX, Registry
from kedge.models.repository import sources_of_repository
from kedge.store.uploads import Uploads
from support.registry_bench import Bench, executor_of, touch
from support.repositories import CONFIG, NoUrls, write_model, write_model_file

ALL_VERSIONS = CONFIG + "version_policy { all {} }"


# Start


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_modes_none_and_poll_load_everything_at_start(bench: Bench, mode: str) -> None:
    write_model(bench.root, "a", ALL_VERSIONS, [1, 2])
    write_model(bench.root, "b")
    assert not bench.registry.ready
    bench.start(model_control=mode)
    assert bench.served == ["a:1", "a:2", "b:1"]
    assert bench.registry.ready
    assert bench.index == [("a:1", "READY", ""), ("a:2", "READY", ""), ("b:1", "READY", "")]


def test_mode_explicit_loads_what_it_is_told(bench: Bench) -> None:
    write_model(bench.root, "a")
    write_model(bench.root, "b")
    bench.start("b")
    assert bench.served == ["b:1"]
    assert bench.registry.ready
    assert bench.index == [("a:", "", ""), ("b:1", "READY", "")]


def test_mode_explicit_loads_everything_for_a_star(bench: Bench) -> None:
    write_model(bench.root, "a")
    write_model(bench.root, "b")
    bench.start("*")
    assert bench.served == ["a:1", "b:1"]


def test_a_model_that_start_names_but_nobody_has_is_in_the_index(bench: Bench) -> None:
    bench.start("nobody")
    assert bench.index == [("nobody:", "UNAVAILABLE", "no target has a model 'nobody'")]
    assert not bench.registry.ready


def test_targets_that_cannot_be_read_end_the_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "gone")
    with pytest.raises(RepositoryFailed, match="cannot be listed"):
        bench.start()
    bench.registry.close()


def test_bad_models_are_in_the_index_and_the_others_serve(bench: Bench) -> None:
    write_model(bench.root, "configured wrong", "max_batchsize: 8")
    broken = write_model(bench.root, "broken", ALL_VERSIONS, [1, 2])
    write_model_file(broken, 1, "broken model")
    write_model_file(write_model(bench.root, "bug"), 1, "bug")
    (write_model(bench.root, "empty") / "1" / "model.pt").unlink()
    write_model(bench.root, "good")
    bench.start(model_control="none")
    assert bench.served == ["broken:2", "good:1"]
    assert not bench.registry.ready
    by_name = {name: (state, reason) for name, state, reason in bench.index}
    assert by_name["good:1"] == ("READY", "")
    assert by_name["broken:1"] == ("UNAVAILABLE", f"{broken}/1/model.pt: broken model")
    assert by_name["broken:2"] == ("READY", "")
    assert by_name["bug:1"] == ("UNAVAILABLE", "RuntimeError('bug')")
    assert by_name["empty:1"][1].endswith("there is no such file; put the model there")
    assert "Did you mean 'max_batch_size'?" in by_name["configured wrong:"][1]


def test_a_name_in_two_repositories_is_not_served(tmp_path: Path) -> None:
    write_model(tmp_path / "r1", "a")
    write_model(tmp_path / "r2", "a")
    registry = Registry(
        lambda: [s for r in ("r1", "r2") for s in sources_of_repository(tmp_path / r)],
        lambda manifest: pytest.fail("loaded"),
        lambda catalog: None,
        NoUrls(),
        Uploads(tmp_path / "state", is_allowed=False),
    )
    registry.start("none", ())
    (entry,) = registry.index()
    assert entry.state is VersionState.UNAVAILABLE
    assert entry.reason == "model 'a' appears in two or more repositories"
    registry.close()


# Parameters


def config_json(rows_max: int) -> str:
    tensor = {"name": "x", "data_type": "TYPE_FP32", "dims": [1]}
    return json.dumps({"max_batch_size": rows_max, "input": [tensor], "output": [tensor]})


def test_an_override_stays_until_the_model_is_unloaded(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start("a")
    assert bench.load("a", config=config_json(3)) is None
    assert bench.version("a", 1).manifest.schema.rows_max == 3
    touch(directory / "1" / "model.pt", "new")
    assert bench.load("a") is None
    assert executor_of(bench.version("a", 1)).content == "new"
    assert bench.version("a", 1).manifest.schema.rows_max == 3
    bench.unload("a")
    bench.load("a")
    assert bench.version("a", 1).manifest.schema.rows_max == 8


def test_an_override_that_cannot_be_used_is_forgotten(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start("a")
    error = bench.load("a", config="{")
    assert isinstance(error, RepositoryFailed)
    assert str(error).startswith("failed to load 'a', failed to poll from model repository: ")
    assert bench.load("a") is None
    assert bench.version("a", 1).manifest.schema.rows_max == 8


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"colour": "red"}, "unrecognized load parameter 'colour'."),
        (
            {"config": b"{}"},
            "invalid value type for load parameter 'config', expected string_param.",
        ),
        (
            {"file:1/model.pt": "x"},
            "invalid value type for load parameter 'file:1/model.pt', expected bytes_param.",
        ),
        ({"file:1/model.pt": b"x"}, "files need the parameter 'config'"),
        ({"config": "{}", "file:../a": b""}, "expected a relative path like 1/model.pt"),
        ({"config": "{}", "file:": b""}, "expected a relative path like 1/model.pt"),
    ],
)
def test_other_load_parameters_are_refused(
    bench: Bench, parameters: dict[str, object], text: str
) -> None:
    write_model(bench.root, "a")
    bench.start()
    error = bench.load("a", **parameters)
    assert isinstance(error, InvalidRequest)
    assert text in str(error)
    assert bench.served == []


# Poll


def test_a_poll_finds_what_came_changed_and_went(bench: Bench) -> None:
    stays = write_model(bench.root, "stays")
    changes = write_model(bench.root, "changes")
    goes = write_model(bench.root, "goes")
    bench.start(model_control="poll")
    before = {name: bench.version(name, 1) for name in ("stays", "changes", "goes")}
    write_model(bench.root, "comes")
    touch(changes / "1" / "model.pt", "new")
    goes.rename(bench.root / ".goes")
    assert bench.poll() is None
    assert bench.poll() is None
    assert bench.served == ["changes:1", "comes:1", "stays:1"]
    assert bench.version("stays", 1) is before["stays"]
    assert executor_of(bench.version("changes", 1)).content == "new"
    assert executor_of(before["changes"]).is_closed
    assert executor_of(before["goes"]).is_closed
    assert [name for name, _, _ in bench.index] == ["changes:1", "comes:1", "stays:1"]
    assert bench.registry.ready
    assert stays.exists()


def test_a_poll_without_changes_announces_nothing(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start(model_control="poll")
    announced = len(bench.catalogs)
    bench.poll()
    assert len(bench.catalogs) == announced


def test_a_poll_does_not_retry_what_failed_until_it_changes(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    write_model_file(directory, 1, "broken")
    attempts: list[VersionManifest] = []
    bench.before_load = attempts.append
    bench.start(model_control="poll")
    bench.poll()
    assert len(attempts) == 1
    assert not bench.registry.ready
    touch(directory / "1" / "model.pt", "mended")
    bench.poll()
    assert bench.served == ["a:1"]
    assert bench.registry.ready


def test_a_poll_that_meets_a_mistake_keeps_serving_and_says_so(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start(model_control="poll")
    before = bench.version("a", 1)
    (directory / "config.pbtxt").write_text("max_batchsize: 8")
    bench.poll()
    assert bench.version("a", 1) is before
    ((_, state, reason),) = bench.index
    assert state == "READY"
    assert reason.startswith("not reloaded: ")
    assert bench.registry.ready
    (directory / "config.pbtxt").write_text(CONFIG)
    bench.poll()
    assert bench.version("a", 1) is before
    assert bench.index == [("a:1", "READY", "")]


def test_a_change_that_is_taken_back_leaves_everything_as_it_was(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start(model_control="poll")
    before = bench.version("a", 1)
    model = directory / "1" / "model.pt"
    model.rename(directory / "1" / "kept.pt")
    bench.poll()
    assert bench.index[0][2].startswith("not reloaded: ")
    (directory / "1" / "kept.pt").rename(model)
    bench.poll()
    assert bench.version("a", 1) is before
    assert bench.index == [("a:1", "READY", "")]


def test_a_repository_that_vanishes_does_not_take_its_models_out(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start(model_control="poll")
    moved = bench.root.with_name("moved")
    bench.root.rename(moved)
    assert isinstance(bench.poll(), RepositoryFailed)
    assert bench.served == ["a:1"]
    moved.rename(bench.root)


def test_polling_goes_by_time_in_mode_poll(bench: Bench) -> None:
    loaded = threading.Event()
    bench.before_load = lambda manifest: loaded.set()
    bench.registry.start("poll", (), poll_s=0.01)
    write_model(bench.root, "a")
    assert loaded.wait(10)


# Bounds and ends


def test_changes_beyond_the_bound_are_refused_at_once(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start()
    loading, go_on = threading.Event(), threading.Event()

    def wait(manifest: VersionManifest) -> None:
        loading.set()
        assert go_on.wait(10)

    bench.before_load = wait
    errors: list[ServeError | None] = []
    bench.registry.load("a", {}, errors.append)
    assert loading.wait(10)
    for _ in range(CHANGES_WAITING_MAX):
        bench.registry.unload("nobody", errors.append)
    assert errors == []
    bench.registry.unload("nobody", errors.append)
    (error,) = errors
    assert isinstance(error, Unavailable)
    go_on.set()


def test_changes_happen_in_the_order_of_the_calls(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start()
    bench.registry.load("a", {}, lambda error: None)
    assert bench.unload("a") is None
    assert bench.served == []


def test_a_bug_in_a_change_is_internal_and_the_next_one_works(bench: Bench) -> None:
    write_model(bench.root, "a")
    write_model(bench.root, "b")
    bench.start()

    def fail(catalog: Catalog) -> None:
        raise ZeroDivisionError

    bench.on_change = fail
    assert isinstance(bench.load("a"), Internal)
    bench.on_change = lambda catalog: None
    assert bench.load("b") is None
    assert bench.load("a") is None
    assert bench.served == ["a:1", "b:1"]


def test_close_closes_every_executor_and_refuses_what_comes(bench: Bench) -> None:
    write_model(bench.root, "a", ALL_VERSIONS, [1, 2])
    bench.start("a")
    bench.registry.close()
    assert all(executor_of(served).is_closed for served in bench.registry.catalog.versions())
    assert isinstance(bench.load("a"), ShuttingDown)
