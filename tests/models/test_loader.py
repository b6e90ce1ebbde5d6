"""What a load and an unload do to what serves, and in which order it becomes visible."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from kedge.core.errors import (
    LoadFailed,
    RepositoryFailed,
    ServeError,
    Unavailable,
)
from kedge.core.values import VersionManifest
from support.registry_bench import Bench, Rows, executor_of, touch
from support.repositories import CONFIG, outcome, write_model, write_model_file

ALL_VERSIONS = CONFIG + "version_policy { all {} }"


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
