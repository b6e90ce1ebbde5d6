"""Start, load, unload, poll: what is served, what the index says, in which order it happens."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kedge.core.errors import (
    Internal,
    InvalidRequest,
    LoadFailed,
    RepositoryFailed,
    ServeError,
    ShuttingDown,
    Unavailable,
)
from kedge.core.ports import Executor
from kedge.core.values import Catalog, ServedVersion, VersionManifest, VersionState
from kedge.models.registry import CHANGES_WAITING_MAX, Registry
from kedge.models.repository import sources_of_repository
from support.repositories import CONFIG, MemoryExecutor, outcome, write_model, write_model_file

ALL_VERSIONS = CONFIG + "version_policy { all {} }"
Rows = list[tuple[str, str, str]]


class Bench:
    """A registry over `root`, with every catalog that it announced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalogs: list[Catalog] = []
        self.before_load: Callable[[VersionManifest], None] = lambda manifest: None
        self.on_change: Callable[[Catalog], None] = lambda catalog: None
        self.registry = Registry(
            lambda: sources_of_repository(root), self._make_executor, self._changed
        )

    def _make_executor(self, manifest: VersionManifest) -> Executor:
        self.before_load(manifest)
        return MemoryExecutor(manifest)  # type: ignore[return-value]  # never submitted to

    def _changed(self, catalog: Catalog) -> None:
        self.on_change(catalog)
        self.catalogs.append(catalog)

    def start(self, *load_models: str, model_control: str = "explicit") -> None:
        # A poll by time never comes: tests poll by hand.
        self.registry.start(model_control, load_models, poll_s=3600.0)

    def load(self, name: str, **parameters: object) -> ServeError | None:
        return outcome(lambda on_done: self.registry.load(name, parameters, on_done))

    def unload(self, name: str) -> ServeError | None:
        return outcome(lambda on_done: self.registry.unload(name, on_done))

    def poll(self) -> ServeError | None:
        return outcome(self.registry.poll_once)

    def settle(self) -> None:
        """Wait until what follows the last answer is over too; the loader takes turns."""
        self.unload("nobody")

    @property
    def served(self) -> list[str]:
        return [str(served.ref) for served in self.registry.catalog.versions()]

    def version(self, name: str, version: int) -> ServedVersion:
        return self.registry.catalog.models[name][version]

    @property
    def index(self) -> Rows:
        return [
            (
                f"{entry.name}:{entry.version}",
                entry.state.value if entry.state else "",
                entry.reason,
            )
            for entry in self.registry.index()
        ]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.registry.close()


def executor_of(served: ServedVersion) -> MemoryExecutor:
    assert isinstance(served.executor, MemoryExecutor)
    return served.executor


def touch(path: Path, content: str) -> None:
    """Replace a file's content and be sure that its time differs."""
    modified_ns = path.stat().st_mtime_ns
    path.write_text(content)
    os.utime(path, ns=(modified_ns + 1_000_000, modified_ns + 1_000_000))


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
    )
    registry.start("none", ())
    (entry,) = registry.index()
    assert entry.state is VersionState.UNAVAILABLE
    assert entry.reason == "model 'a' appears in two or more repositories"
    registry.close()


# Load


def test_load_is_done_when_the_model_serves(bench: Bench) -> None:
    bench.start()
    write_model(bench.root, "a")
    assert bench.load("a") is None
    assert bench.served == ["a:1"]
    assert bench.index == [("a:1", "READY", "")]


def test_a_catalog_is_announced_before_its_versions_are_ready(bench: Bench) -> None:
    write_model(bench.root, "a")
    seen: list[Rows] = []
    bench.on_change = lambda catalog: seen.append(bench.index)
    bench.start("a")
    assert seen == [[("a:1", "LOADING", "")]]
    assert bench.registry.catalog is bench.catalogs[-1]


def test_the_server_is_not_ready_while_a_model_loads(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start()
    assert bench.registry.ready
    loading, go_on = threading.Event(), threading.Event()

    def wait(manifest: VersionManifest) -> None:
        loading.set()
        assert go_on.wait(10)

    bench.before_load = wait

    def load(on_done: Callable[[ServeError | None], None]) -> None:
        bench.registry.load("a", {}, on_done)
        assert loading.wait(10)
        assert not bench.registry.ready
        assert bench.index == [("a:1", "LOADING", "")]
        assert bench.served == []
        go_on.set()

    assert outcome(load) is None
    assert bench.registry.ready


def test_the_server_stays_ready_while_a_version_that_serves_is_replaced(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start("a")
    touch(directory / "1" / "model.pt", "new")
    seen: list[tuple[bool, Rows]] = []
    bench.before_load = lambda manifest: seen.append((bench.registry.ready, bench.index))
    assert bench.load("a") is None
    assert seen == [(True, [("a:1", "READY", "")])]


def test_loading_what_nobody_has_fails_and_leaves_no_trace(bench: Bench) -> None:
    bench.start()
    error = bench.load("nobody")
    assert isinstance(error, RepositoryFailed)
    assert str(error).startswith("failed to load 'nobody', failed to poll from model repository")
    assert bench.index == []
    assert bench.registry.ready


def test_a_failed_load_tells_the_version_and_keeps_the_server_unready(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    write_model_file(directory, 1, "broken")
    bench.start()
    error = bench.load("a")
    reason = f"{directory}/1/model.pt: broken"
    assert isinstance(error, LoadFailed)
    assert str(error) == (f"load failed for model 'a': version 1 is at UNAVAILABLE state: {reason}")
    assert bench.index == [("a:1", "UNAVAILABLE", reason)]
    assert not bench.registry.ready
    assert bench.registry.catalog.models == {"a": {}}
    touch(directory / "1" / "model.pt", "mended")
    assert bench.load("a") is None
    assert bench.registry.ready


def test_loading_again_retries_what_failed_even_if_nothing_changed(bench: Bench) -> None:
    write_model_file(write_model(bench.root, "a"), 1, "broken")
    bench.start()
    assert isinstance(bench.load("a"), LoadFailed)
    assert isinstance(bench.load("a"), LoadFailed)


def test_loading_again_what_did_not_change_keeps_executor_and_statistics(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start("a")
    before = bench.version("a", 1)
    assert bench.load("a") is None
    assert bench.version("a", 1) is before


def test_a_changed_model_file_is_swapped_in_before_the_old_one_closes(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start("a")
    old = bench.version("a", 1)
    old.statistics.inference_count = 7
    touch(directory / "1" / "model.pt", "new")
    closed_at_change: list[bool] = []
    bench.on_change = lambda catalog: closed_at_change.append(executor_of(old).is_closed)
    assert bench.load("a") is None
    bench.settle()
    new = bench.version("a", 1)
    assert executor_of(new).content == "new"
    assert new.statistics.inference_count == 0
    assert closed_at_change == [False]
    assert executor_of(old).is_closed
    assert bench.index == [("a:1", "READY", "")]


def test_only_the_version_that_changed_is_loaded_again(bench: Bench) -> None:
    directory = write_model(bench.root, "a", ALL_VERSIONS, [1, 2])
    bench.start("a")
    before = bench.version("a", 1)
    touch(directory / "2" / "model.pt", "new")
    assert bench.load("a") is None
    assert bench.version("a", 1) is before
    assert executor_of(bench.version("a", 2)).content == "new"


def test_a_changed_configuration_loads_every_version_again(bench: Bench) -> None:
    directory = write_model(bench.root, "a", ALL_VERSIONS, [1, 2])
    bench.start("a")
    (directory / "config.pbtxt").write_text(ALL_VERSIONS.replace("_size: 8", "_size: 4"))
    assert bench.load("a") is None
    assert {s.manifest.schema.rows_max for s in bench.registry.catalog.versions()} == {4}


def test_a_new_version_takes_the_place_of_the_one_that_the_policy_drops(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start("a")
    old = bench.version("a", 1)
    write_model_file(directory, 2, "new")
    assert bench.load("a") is None
    bench.settle()
    assert bench.served == ["a:2"]
    assert executor_of(old).is_closed
    assert bench.index == [("a:1", "UNAVAILABLE", "unloaded"), ("a:2", "READY", "")]
    assert bench.registry.ready


def test_a_reload_that_fails_leaves_the_old_version_serving(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start("a")
    old = bench.version("a", 1)
    touch(directory / "1" / "model.pt", "broken")
    assert isinstance(bench.load("a"), LoadFailed)
    assert bench.version("a", 1) is old
    assert not executor_of(old).is_closed
    ((_, state, reason),) = bench.index
    assert state == "READY"
    assert reason == f"not reloaded: {directory}/1/model.pt: broken"
    assert bench.registry.ready


def test_a_broken_new_version_does_not_replace_a_good_old_one(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start("a")
    write_model_file(directory, 2, "broken")
    assert isinstance(bench.load("a"), LoadFailed)
    assert bench.served == ["a:1"]
    assert not bench.registry.ready
    (directory / "2" / "model.pt").unlink()
    (directory / "2").rmdir()
    assert bench.load("a") is None
    assert bench.registry.ready
    assert bench.index == [("a:1", "READY", "")]


def test_a_configuration_that_breaks_leaves_the_old_one_serving(bench: Bench) -> None:
    directory = write_model(bench.root, "a")
    bench.start("a")
    (directory / "config.pbtxt").write_text("max_batchsize: 8")
    error = bench.load("a")
    assert isinstance(error, RepositoryFailed)
    assert "Did you mean 'max_batch_size'?" in str(error)
    assert bench.index == [("a:1", "READY", "")]
    assert bench.registry.ready


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
        ({"config": "{}", "file:1/model.pt": b"x"}, "uploading files is not in this version"),
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


# Unload


def test_unload_takes_a_model_out_before_its_executors_close(bench: Bench) -> None:
    write_model(bench.root, "a", ALL_VERSIONS, [1, 2])
    bench.start("a")
    old = bench.registry.catalog.versions()
    seen: list[tuple[Rows, bool]] = []
    bench.on_change = lambda catalog: seen.append(
        (bench.index, any(executor_of(served).is_closed for served in old))
    )
    assert bench.unload("a") is None
    assert bench.served == []
    bench.settle()
    assert seen == [([("a:1", "UNLOADING", ""), ("a:2", "UNLOADING", "")], False)]
    assert all(executor_of(served).is_closed for served in old)
    unloaded = ("UNAVAILABLE", "unloaded")
    assert bench.index == [("a:1", *unloaded), ("a:2", *unloaded)]
    assert bench.registry.catalog.models == {"a": {}}
    assert bench.registry.ready


def test_unloading_what_nobody_has_succeeds(bench: Bench) -> None:
    bench.start()
    assert bench.unload("nobody") is None
    assert bench.index == []
    assert bench.catalogs == []


def test_unloading_what_failed_makes_the_server_ready_again(bench: Bench) -> None:
    write_model_file(write_model(bench.root, "a"), 1, "broken")
    write_model(bench.root, "b", "max_batchsize: 8")
    bench.start("*")
    assert not bench.registry.ready
    bench.unload("a")
    bench.unload("b")
    assert bench.registry.ready


def test_an_unloaded_model_loads_again(bench: Bench) -> None:
    write_model(bench.root, "a")
    bench.start("a")
    bench.unload("a")
    assert bench.load("a") is None
    assert bench.served == ["a:1"]


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_load_and_unload_are_refused_unless_explicit(bench: Bench, mode: str) -> None:
    write_model(bench.root, "a")
    bench.start(model_control=mode)
    for error in (bench.load("a"), bench.unload("a")):
        assert isinstance(error, Unavailable)
        assert str(error) == ("explicit model load / unload is not allowed if polling is enabled")
    assert bench.served == ["a:1"]


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
