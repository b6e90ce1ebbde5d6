"""Workers are started, started again and ended, with real processes that have no model."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kedge.core.errors import LoadFailed, ServeError
from kedge.process.child import end_child
from kedge.workers import supervisor
from kedge.workers.supervisor import WorkerGroup, WorkerJob
from support.fakes import DoublingExecutor, served
from support.server import is_alive, wait_until

WAIT_S = 20


class Events:
    """Keeps what it is told; the connections stay open until `close`."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.told: list[tuple[str, Any]] = []
        self.connections: list[socket.socket] = []

    def _tell(self, kind: str, value: Any) -> None:
        with self.changed:
            self.told.append((kind, value))
            self.changed.notify_all()

    def worker_loaded(self, worker: int, connection: socket.socket) -> None:
        self.connections.append(connection)
        self._tell("loaded", worker)

    def worker_ended(self, worker: int, how: str) -> None:
        self._tell("ended", how)

    def no_worker(self, error: ServeError) -> None:
        self._tell("none", str(error))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    def wait(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S), self.told


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MODULE", "support.fake_worker")
    monkeypatch.setattr(supervisor, "BACKOFF_S_FIRST", 0.01)
    monkeypatch.setattr(supervisor, "BACKOFF_S_MAX", 0.05)
    monkeypatch.setattr(supervisor, "end_child", partial(end_child, wait_s=0.5))
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{os.environ.get('PYTHONPATH', '')}")


@contextmanager
def group(folder: Path, *behaviours: str) -> Iterator[tuple[WorkerGroup, Events]]:
    """One worker for each behaviour, see `fake_worker`; none is left at the end."""
    manifest = served(DoublingExecutor()).manifest
    events = Events()
    workers = WorkerGroup([WorkerJob(manifest, what, False, folder) for what in behaviours], events)
    try:
        yield workers, events
    finally:
        pids = workers.pids
        workers.stop()
        assert not any(map(is_alive, pids))
        for connection in events.connections:
            connection.close()


def test_a_worker_that_loads_is_connected_and_one_that_ends_is_replaced(tmp_path: Path) -> None:
    with group(tmp_path, "loads") as (workers, events):
        workers.start()
        assert events.kinds() == ["loaded"]
        (first,) = workers.pids
        os.kill(first, signal.SIGSEGV)
        events.wait(lambda: events.kinds() == ["loaded", "ended", "loaded"])
        assert events.told[1] == ("ended", "SIGSEGV")
        assert events.told[0] != events.told[2]
        assert workers.pids != [first]


@pytest.mark.parametrize(
    ("behaviour", "reason"), [("fails", "told to fail"), ("crashes", "SIGSEGV")]
)
def test_a_model_that_does_not_load_at_first_is_not_tried_again(
    behaviour: str, reason: str, tmp_path: Path
) -> None:
    with group(tmp_path, "loads", behaviour) as (workers, _):
        with pytest.raises(LoadFailed, match=reason):
            workers.start()
        assert not any(map(is_alive, workers.pids))


def test_a_worker_that_hangs_is_killed_by_its_number(tmp_path: Path) -> None:
    with group(tmp_path, "loads hangs") as (workers, events):
        workers.start()
        workers.kill(events.told[0][1] + 1)
        assert "ended" not in events.kinds()
        workers.kill(events.told[0][1])
        events.wait(lambda: events.kinds() == ["loaded", "ended", "loaded"])


def test_a_gateway_that_comes_later_gets_a_connection_of_its_own(tmp_path: Path) -> None:
    with group(tmp_path, "loads") as (workers, events):
        workers.start()
        workers.connect()
        assert events.told[0] == events.told[1]
        assert len(events.connections) == 2


def test_a_worker_whose_child_holds_its_socket_is_replaced_all_the_same(tmp_path: Path) -> None:
    with group(tmp_path, "forks loads") as (workers, events):
        workers.start()
        (pid,) = workers.pids
        (helper,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        os.kill(pid, signal.SIGKILL)
        events.wait(lambda: events.kinds() == ["loaded", "ended", "loaded"])
        assert wait_until(lambda: not is_alive(helper))


def test_a_worker_that_says_what_nobody_asked_is_replaced(tmp_path: Path) -> None:
    with group(tmp_path, "loads speaks") as (workers, events):
        workers.start()
        events.wait(lambda: events.kinds()[:3] == ["loaded", "ended", "loaded"])


def test_a_worker_that_begins_to_speak_and_stops_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CHECK_S", 0.1)
    with group(tmp_path, "stammers") as (workers, _):
        with pytest.raises(LoadFailed, match="ended while it loaded"):
            workers.start()
        assert not any(map(is_alive, workers.pids))


def test_after_three_starts_in_vain_there_is_no_worker_until_one_loads(tmp_path: Path) -> None:
    with group(tmp_path, "fails? loads") as (workers, events):
        workers.start()
        (tmp_path / "fails").touch()
        os.kill(workers.pids[0], signal.SIGKILL)
        events.wait(lambda: "none" in events.kinds())
        assert "told to fail" in events.told[-1][1]
        # A gateway that was started again does not know.
        told = events.kinds().count("none")
        workers.connect()
        events.wait(lambda: events.kinds().count("none") > told)
        (tmp_path / "fails").unlink()
        events.wait(lambda: events.kinds()[-1] == "loaded")
        workers.connect()
        assert events.kinds()[-1] == "loaded"


def test_one_instance_that_cannot_start_is_no_matter_while_another_serves(tmp_path: Path) -> None:
    with group(tmp_path, "loads", "fails? loads") as (workers, events):
        workers.start()
        (tmp_path / "fails").touch()
        os.kill(workers.pids[1], signal.SIGKILL)
        pids: set[int] = set()
        assert wait_until(lambda: pids.add(workers.pids[1]) or len(pids) > 6, WAIT_S)
        assert "none" not in events.kinds()
        os.kill(workers.pids[0], signal.SIGKILL)
        events.wait(lambda: events.kinds().count("loaded") == 3)
        assert "none" not in events.kinds()


def test_a_process_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with group(tmp_path, "loads") as (workers, events):
        workers.start()
        started = supervisor.start_child
        failures = [BlockingIOError(11, "Resource temporarily unavailable")] * 2

        def start(*arguments: Any) -> Any:
            if failures:
                raise failures.pop()
            return started(*arguments)

        monkeypatch.setattr(supervisor, "start_child", start)
        os.kill(workers.pids[0], signal.SIGKILL)
        events.wait(lambda: events.kinds() == ["loaded", "ended", "loaded"])
        assert not failures


def test_a_process_that_cannot_be_started_at_first_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor, "start_child", start)
    with group(tmp_path, "loads") as (workers, _):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(LoadFailed, match="temporarily unavailable"):
            workers.start()
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_group_that_is_stopped_as_a_worker_starts_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment: the instance has looked whether it is to end, and has no process yet."""
    with group(tmp_path, "loads") as (workers, events):
        workers.start()
        pair = supervisor.Channel.pair
        stopper = threading.Thread(target=workers.stop)
        has_begun = threading.Event()

        def slow_pair(*arguments: Any) -> Any:
            stopper.start()
            has_begun.set()
            assert workers._instances[0]._ending.wait(WAIT_S)
            return pair(*arguments)

        monkeypatch.setattr(supervisor.Channel, "pair", slow_pair)
        os.kill(workers.pids[0], signal.SIGKILL)
        assert has_begun.wait(WAIT_S)
        stopper.join(WAIT_S)
        assert not stopper.is_alive()
        assert events.kinds() == ["loaded", "ended"]


def test_many_restarts_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    with group(tmp_path, "loads") as (workers, events):
        workers.start()

        def restart(times: int) -> tuple[int, int]:
            for _ in range(times):
                loaded = events.kinds().count("loaded")
                os.kill(workers.pids[0], signal.SIGKILL)
                events.wait(lambda known=loaded: events.kinds().count("loaded") > known)
                events.connections.pop(0).close()
            return len(os.listdir("/proc/self/fd")), threading.active_count()

        assert restart(1) == restart(5)
