"""Versions whose model lies behind a URL: when they are fetched, and what a failure does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from kedge.core.errors import LoadFailed
from kedge.core.values import VersionManifest
from support.registry_bench import Bench, executor_of
from support.repositories import outcome
from support.torchscript import manifest


@dataclass
class Cloud:
    """`ModelFiles` over texts by URL. held: how often each path is."""

    folder: Path
    texts: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    held: dict[Path, int] = field(default_factory=dict)

    def fetch(self, manifest: VersionManifest) -> VersionManifest:
        self.asked.append(manifest.url)
        if manifest.url not in self.texts:
            raise LoadFailed(f"{manifest.url}: there is no such file")
        text = self.texts[manifest.url].encode()
        sha256 = hashlib.sha256(text).hexdigest()
        path = self.folder / sha256
        path.write_bytes(text)
        self.held[path] = self.held.get(path, 0) + 1
        return replace(manifest, path=path, sha256=sha256)

    def release(self, manifest: VersionManifest) -> None:
        self.held[manifest.path] -= 1

    @property
    def in_use(self) -> list[str]:
        return [path.read_text() for path, count in self.held.items() for _ in range(count)]


@dataclass
class Source:
    """An endpoint file's versions: number to URL."""

    urls: dict[int, str]
    name: str = "m"

    def manifests(self, config_override: str | None) -> Sequence[VersionManifest]:
        base = manifest(Path("m.pt"), [], [])
        return [
            replace(base, ref=replace(base.ref, version=number), url=url)
            for number, url in self.urls.items()
        ]


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path, {"s3://1": "one"})


@pytest.fixture
def source() -> Source:
    return Source({1: "s3://1"})


@pytest.fixture
def bench(tmp_path: Path, cloud: Cloud, source: Source) -> Iterator[Bench]:
    bench = Bench(tmp_path, cloud)
    bench.sources = lambda: [source]
    yield bench
    bench.registry.close()


def test_a_version_is_fetched_before_it_is_loaded_and_held_while_it_serves(
    bench: Bench, cloud: Cloud
) -> None:
    states: list[object] = []
    bench.before_load = lambda manifest: states.append(bench.index)
    bench.start("m")
    served = bench.version("m", 1)
    assert executor_of(served).content == "one"
    assert served.manifest.path.read_text() == "one"
    assert states == [[("m:1", "LOADING", "")]]
    assert cloud.in_use == ["one"]
    bench.unload("m")
    bench.settle()
    assert cloud.in_use == []


def test_what_cannot_be_fetched_fails_alone_with_its_reason(
    bench: Bench, source: Source, cloud: Cloud
) -> None:
    source.urls[2] = "s3://gone"
    bench.start(model_control="none")
    assert bench.served == ["m:1"]
    reason = "s3://gone: there is no such file"
    assert bench.index == [("m:1", "READY", ""), ("m:2", "UNAVAILABLE", reason)]
    assert not bench.registry.ready
    assert cloud.in_use == ["one"]


def test_a_load_asks_again_and_changes_nothing_if_nothing_changed(
    bench: Bench, cloud: Cloud
) -> None:
    bench.start("m")
    before = bench.version("m", 1)
    announced = len(bench.catalogs)
    assert bench.load("m") is None
    assert cloud.asked == ["s3://1"] * 2
    assert bench.version("m", 1) is before
    assert len(bench.catalogs) == announced
    assert cloud.in_use == ["one"]


def test_a_load_takes_what_is_new_behind_the_url(bench: Bench, cloud: Cloud) -> None:
    bench.start("m")
    cloud.texts["s3://1"] = "two"
    assert bench.load("m") is None
    bench.settle()
    assert executor_of(bench.version("m", 1)).content == "two"
    assert cloud.in_use == ["two"]


def test_a_load_that_cannot_ask_keeps_what_serves(bench: Bench, cloud: Cloud) -> None:
    bench.start("m")
    before = bench.version("m", 1)
    cloud.texts.clear()
    assert isinstance(bench.load("m"), LoadFailed)
    assert bench.version("m", 1) is before
    ((_, state, reason),) = bench.index
    assert (state, reason) == ("READY", "not reloaded: s3://1: there is no such file")
    assert bench.registry.ready
    cloud.texts["s3://1"] = "one"
    assert bench.load("m") is None
    assert bench.index == [("m:1", "READY", "")]
    assert bench.version("m", 1) is before


def test_what_came_but_does_not_load_is_let_go(bench: Bench, cloud: Cloud) -> None:
    cloud.texts["s3://1"] = "broken"
    bench.start("m")
    assert bench.served == []
    assert cloud.in_use == []


def test_a_poll_asks_no_url_that_was_answered(bench: Bench, cloud: Cloud) -> None:
    bench.start(model_control="poll")
    before = bench.version("m", 1)
    cloud.texts["s3://1"] = "two"
    bench.poll()
    assert cloud.asked == ["s3://1"]
    assert bench.version("m", 1) is before


def test_a_poll_does_not_try_again_what_came_and_failed_to_load(bench: Bench, cloud: Cloud) -> None:
    cloud.texts["s3://1"] = "broken"
    bench.start(model_control="poll")
    bench.poll()
    assert cloud.asked == ["s3://1"]


def test_a_poll_tries_again_what_never_came(bench: Bench, cloud: Cloud) -> None:
    cloud.texts.clear()
    bench.start(model_control="poll")
    assert not bench.registry.ready
    cloud.texts["s3://1"] = "one"
    bench.poll()
    assert bench.served == ["m:1"]
    assert bench.registry.ready


def test_a_poll_follows_the_endpoint_file_to_another_url(
    bench: Bench, cloud: Cloud, source: Source
) -> None:
    bench.start(model_control="poll")
    source.urls[1] = "s3://2"
    cloud.texts["s3://2"] = "two"
    assert outcome(bench.registry.poll_once) is None
    bench.settle()
    assert executor_of(bench.version("m", 1)).content == "two"
    assert cloud.in_use == ["two"]
