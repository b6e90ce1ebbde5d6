"""Models are measured in one process after another that may crash or hang."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge.core.errors import LoadFailed
from kedge.process.child import end_child
from kedge.workers import prober, supervisor
from kedge.workers.prober import Prober
from kedge.workers.supervisor import WorkerJob
from support.fakes import DoublingExecutor, served
from support.server import is_alive, wait_until

WAIT_S = 20


class Scene:
    """A prober whose process does what `measure` is told; see `support.fake_worker`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prober = Prober()

    def measure(self, behaviour: str) -> float:
        manifest = served(DoublingExecutor()).manifest
        return self.prober.measure(WorkerJob(manifest, behaviour, False, self.folder))

    @property
    def pid(self) -> int | None:
        process = self.prober._process
        return process.pid if process else None


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(supervisor, "MODULE", "support.fake_worker")
    monkeypatch.setattr(prober, "end_child", lambda process, wait_s: end_child(process, 0.1))
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{os.environ.get('PYTHONPATH', '')}")
    scene = Scene(tmp_path)
    yield scene
    pid = scene.pid
    scene.prober.close()
    assert pid is None or not is_alive(pid)


def test_one_process_measures_one_model_after_another(scene: Scene) -> None:
    assert scene.measure("loads") == 7.5
    pid = scene.pid
    assert scene.measure("loads") == 7.5
    assert scene.pid == pid


@pytest.mark.parametrize(("behaviour", "reason"), [("refuses", "told to"), ("crashes", "SIGSEGV")])
def test_a_model_that_cannot_be_measured_is_a_reason(
    scene: Scene, behaviour: str, reason: str
) -> None:
    with pytest.raises(LoadFailed, match=reason):
        scene.measure(behaviour)
    assert scene.measure("loads") == 7.5


def test_a_model_that_hangs_is_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "LOAD_S_MAX", 0.5)
    with pytest.raises(LoadFailed, match=r"over 0.5 s"):
        scene.measure("hangs")
    assert scene.pid is None


def test_the_process_ends_when_nothing_was_asked_for_a_while(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "IDLE_S_MAX", 0.01)
    scene.measure("loads")
    pid = scene.pid
    assert pid is None or wait_until(lambda: not is_alive(pid))


def test_a_server_that_ends_does_not_wait_for_a_model_that_hangs(scene: Scene) -> None:
    errors: list[LoadFailed] = []

    def measure() -> None:
        try:
            scene.measure("hangs")
        except LoadFailed as error:
            errors.append(error)

    measuring = threading.Thread(target=measure)
    measuring.start()
    assert wait_until(lambda: scene.pid, WAIT_S)
    closing = threading.Thread(target=scene.prober.close, daemon=True)
    closing.start()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    measuring.join(WAIT_S)
    assert len(errors) == 1
    with pytest.raises(LoadFailed, match="ends"):
        scene.measure("loads")


def test_a_process_that_cannot_be_started_is_a_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(supervisor, "start_child", start)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(LoadFailed, match="temporarily unavailable"):
            scene.measure("loads")
        assert len(os.listdir("/proc/self/fd")) == before
    assert scene.measure("loads") == 7.5
