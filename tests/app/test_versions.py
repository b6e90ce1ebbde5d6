"""What a gateway does with what it is told: open, attach, install, close."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kedge.app.versions import Versions
from kedge.core.ports import Executor
from kedge.core.values import Catalog, ModelRef, ServedVersion
from kedge.process.channel import Channel, Message
from kedge.workers.reader import Reader
from support.fakes import DoublingExecutor, FakeClock, served

WAIT_S = 10
MANIFEST = served(DoublingExecutor()).manifest


class Gateway:
    """The pipeline as `Versions` sees it."""

    def __init__(self) -> None:
        self.catalog: Catalog[Executor] = Catalog()

    def install(self, catalog: Catalog[Executor]) -> None:
        self.catalog = catalog

    def is_busy_with(self, version: ServedVersion[Executor]) -> bool:
        return False

    def dispatch(self) -> None: ...


class Scene:
    """`ask` is the control process."""

    def __init__(self) -> None:
        self.channel, theirs = Channel.pair()
        self.gateway = Gateway()
        clock = FakeClock()
        reader = Reader(clock, lambda worker, hangs: None)
        gateway: Any = self.gateway
        self.versions = Versions(Channel(theirs), gateway, reader, clock)
        self.versions.start()
        reader.start()

    def ask(self, kind: str, blob: bytes = b"", fds: tuple[int, ...] = (), **fields: Any) -> Any:
        """The error, None if it was done."""
        self.versions.take(Message(kind, {"serial": 1, **fields}, blob, fds))
        return self.channel.receive(WAIT_S).fields["error"]

    def open(self, key: str, name: str = "double") -> Any:
        manifest = replace(MANIFEST, ref=ModelRef(name, 1))
        return self.ask("open", pickle.dumps(manifest), key=key, inline=False)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.versions.close()


def test_what_is_open_can_be_installed_and_closed(scene: Scene) -> None:
    assert scene.open("a#1") is None
    assert scene.ask("install", models={"a": {"1": "a#1"}}) is None
    assert list(scene.gateway.catalog.models["a"]) == [1]
    assert scene.ask("install", models={"a": {}}) is None
    assert scene.ask("close", key="a#1") is None
    assert not scene.versions.statistics()


def test_a_version_that_is_opened_twice_stays_the_one_that_it_was(scene: Scene) -> None:
    """By what a new gateway is told first, and by whoever waited for it meanwhile."""
    scene.open("a#1")
    scene.ask("install", models={"a": {"1": "a#1"}})
    before = scene.gateway.catalog.models["a"][1]
    assert scene.open("a#1") is None
    scene.ask("install", models={"a": {"1": "a#1"}})
    assert scene.gateway.catalog.models["a"][1] is before


def test_one_version_that_could_not_be_opened_keeps_no_other_from_serving(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.open("a#1")
    assert scene.ask("install", models={"a": {"1": "a#1"}, "b": {"1": "b#2"}}) is None
    assert "b#2" in caplog.text
    assert list(scene.gateway.catalog.models["a"]) == [1]
    assert not scene.gateway.catalog.models["b"]


def test_a_worker_of_a_version_that_was_closed_is_let_go(scene: Scene) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(WAIT_S)
    assert scene.ask("attach", key="a#1", worker=3, fds=(theirs.detach(),)) is None
    assert ours.recv(1) == b""
    ours.close()


def test_a_worker_is_attached_and_let_go_when_its_version_closes(scene: Scene) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(WAIT_S)
    scene.open("a#1")
    assert scene.ask("attach", key="a#1", worker=3, fds=(theirs.detach(),)) is None
    scene.ask("install", models={"a": {"1": "a#1"}})
    assert scene.gateway.catalog.models["a"][1].executor.batches_free == 2
    assert scene.ask("close", key="a#1") is None
    assert ours.recv(1) == b""
    ours.close()
