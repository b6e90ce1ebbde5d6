"""The gateway is started, told, started again and told all again; here it only listens."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge.control import gateway_process
from kedge.control.gateway_process import GatewayProcess, GatewayStart, OpenedVersion
from kedge.core.errors import LoadFailed, ServeError, Unavailable
from kedge.core.ports import LocalWay
from kedge.core.settings import ServerSettings
from support.fakes import DoublingExecutor, served
from support.server import is_alive, wait_until

WAIT_S = 20
MANIFEST = served(DoublingExecutor()).manifest


class Scene:
    """A gateway process in `folder`; `background` runs what waits for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ways: list[LocalWay] = []
        self.connects = 0
        self.gateway = GatewayProcess(
            GatewayStart(ServerSettings((), state_dir=folder), frozenset()),
            lambda method, payload, counters, answer: answer(payload),
            lambda worker, hangs: None,
            lambda port, way: self.ways.append(way),
        )

    def version(self) -> OpenedVersion:
        return OpenedVersion(MANIFEST, inline=False, connect=self._connect)

    def _connect(self) -> None:
        self.connects += 1

    def taken(self) -> list[str]:
        """The messages that all processes took until now."""
        path = self.folder / "taken"
        return path.read_text().splitlines() if path.exists() else []

    def tell(self, name: str) -> Path:
        (self.folder / name).touch()
        return self.folder / name

    def kill(self) -> None:
        assert self.gateway.process is not None
        os.kill(self.gateway.process.pid, signal.SIGKILL)

    def kill_and_hold(self) -> Path:
        """Kill it; the next one does not listen before the answer is unlinked."""
        hold = self.tell("hold")
        self.kill()
        assert wait_until(lambda: self.gateway.restarts == 1, WAIT_S)
        return hold


class Background:
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except ServeError as error:
            self.result = error

    def join(self) -> Any:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "it still waits"
        return self.result


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(gateway_process, "MODULE", "support.fake_gateway_process")
    monkeypatch.setattr(gateway_process, "BACKOFF_S_FIRST", 0.01)
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{os.environ.get('PYTHONPATH', '')}")
    scene = Scene(tmp_path)
    yield scene
    scene.gateway.stop()
    process = scene.gateway.process
    assert process is None or not is_alive(process.pid)


def test_what_is_asked_is_done_when_the_call_returns(scene: Scene) -> None:
    scene.gateway.start()
    scene.gateway.open("a#1", scene.version())
    scene.gateway.install({"a": {1: "a#1"}})
    scene.gateway.close_version("a#1")
    assert scene.taken() == ["open a#1", "install ", "close a#1"]


def test_a_refusal_is_a_reason(scene: Scene) -> None:
    scene.gateway.start()
    scene.tell("refuse_open")
    with pytest.raises(LoadFailed, match="told to refuse"):
        scene.gateway.open("a#1", scene.version())


def test_a_gateway_that_was_killed_is_started_again_with_all_that_it_had(scene: Scene) -> None:
    scene.gateway.start()
    for key in ("a#1", "b#2", "c#3"):
        scene.gateway.open(key, scene.version())
    scene.gateway.install({"a": {1: "a#1"}, "c": {1: "c#3"}})
    scene.gateway.close_version("b#2")
    before = len(scene.taken())
    scene.kill()
    assert wait_until(lambda: len(scene.taken()) >= before + 3, WAIT_S)
    assert scene.taken()[before:] == ["open a#1", "open c#3", "install "]
    assert wait_until(lambda: scene.connects == 2, WAIT_S)
    assert len({way.secret for way in scene.ways}) == 2


def test_what_is_asked_while_it_is_away_is_done_by_the_next_one(scene: Scene) -> None:
    scene.gateway.start()
    hold = scene.kill_and_hold()
    opening = Background(lambda: scene.gateway.open("a#1", scene.version()))
    installing = Background(lambda: scene.gateway.install({}))
    closing = Background(lambda: scene.gateway.close_version("z#9"))
    hold.unlink()
    assert opening.join() is None
    assert installing.join() is None
    assert closing.join() is None
    assert "open a#1" in scene.taken()


def test_an_open_that_ends_the_gateway_fails_and_is_not_tried_again(scene: Scene) -> None:
    scene.gateway.start()
    die = scene.tell("die_on_open")
    with pytest.raises(LoadFailed, match="exit code 3"):
        scene.gateway.open("a#1", scene.version())
    die.unlink()
    scene.gateway.install({})
    assert scene.taken().count("open a#1") == 1


def test_an_install_that_it_does_not_survive_is_done_by_the_next_one(scene: Scene) -> None:
    scene.gateway.start()
    die = scene.tell("die_on_install")
    installing = Background(lambda: scene.gateway.install({"a": {1: "a#1"}}))
    assert wait_until(lambda: scene.gateway.restarts >= 1, WAIT_S)
    die.unlink()
    assert installing.join() is None
    assert wait_until(lambda: len(scene.taken()) >= 2, WAIT_S)


def test_a_drain_reaches_a_gateway_that_is_only_being_started(scene: Scene) -> None:
    scene.gateway.start()
    hold = scene.kill_and_hold()
    draining = Background(lambda: scene.gateway.drain(WAIT_S))
    hold.unlink()
    assert draining.join() is True
    assert scene.taken()[-1] == "stop "


def test_what_is_asked_after_its_end_does_not_wait(scene: Scene) -> None:
    scene.gateway.start()
    assert scene.gateway.drain(WAIT_S)
    scene.gateway.stop()
    assert isinstance(
        Background(lambda: scene.gateway.open("a#1", scene.version())).join(), LoadFailed
    )
    Background(lambda: scene.gateway.close_version("a#1")).join()


def test_a_gateway_that_is_started_again_and_never_listens_is_replaced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.gateway.start()
    monkeypatch.setattr(gateway_process, "START_S_MAX", 1.0)
    monkeypatch.setattr(gateway_process, "end_child", _killed)
    hold = scene.kill_and_hold()
    assert wait_until(lambda: scene.gateway.restarts == 2, WAIT_S)
    hold.unlink()
    scene.gateway.install({})


def _killed(process: Any) -> int:
    process.kill()
    return int(process.wait())


def test_a_process_that_cannot_be_started_is_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.gateway.start()
    started = gateway_process.start_child
    failures = [BlockingIOError(11, "Resource temporarily unavailable")] * 2

    def start(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return started(*arguments)

    monkeypatch.setattr(gateway_process, "start_child", start)
    scene.kill()
    assert wait_until(lambda: scene.gateway.restarts == 3, WAIT_S)
    scene.gateway.install({})
    assert not failures


def test_a_process_that_cannot_be_started_at_first_is_a_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(gateway_process, "start_child", start)
    before = len(os.listdir("/proc/self/fd"))
    starting = Background(scene.gateway.start)
    assert isinstance(starting.join(), Unavailable)
    assert "temporarily unavailable" in str(starting.result)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_handler_that_fails_does_not_end_the_gateway(scene: Scene) -> None:
    def fail(*_: object) -> None:
        raise LoadFailed("a bug")

    scene.gateway._handle_call = fail
    scene.gateway._on_lost = fail
    scene.gateway.start()
    scene.tell("call")
    scene.gateway.install({})
    scene.gateway.install({})
    assert scene.gateway.restarts == 0


def test_many_restarts_leave_no_descriptor_and_no_thread(scene: Scene) -> None:
    scene.gateway.start()

    def restart(times: int) -> tuple[int, int]:
        for _ in range(times):
            restarts = scene.gateway.restarts
            scene.kill()
            assert wait_until(lambda known=restarts: scene.gateway.restarts > known, WAIT_S)
            scene.gateway.install({})
        assert wait_until(lambda: threading.active_count() <= threads)
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    threads = threading.active_count()
    assert restart(1) == restart(4)
