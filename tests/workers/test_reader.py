"""The thread that reads workers' answers lives on, whatever ends at the same moment."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from kedge.core.errors import ExecuteTimeout, WorkerLost
from kedge.core.ports import BatchResult
from kedge.core.settings import ExecutionLimits
from kedge.workers.pool import WorkerPool
from kedge.workers.reader import Reader
from kedge.workers.slots import Link
from support.fakes import DoublingExecutor, FakeClock, served
from support.worker_end import WorkerEnd

WAIT_S = 10
TIMEOUT_US = 1_000_000
MANIFEST = replace(
    served(DoublingExecutor()).manifest, execution=ExecutionLimits(timeout_us=TIMEOUT_US)
)


class HookedClock(FakeClock):
    """`before_next` runs once on the reader's thread, as it looks at the time before it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.before_next: Callable[[], None] | None = None

    def now_ns(self) -> int:
        hook = self.before_next
        if hook is not None and threading.current_thread().name == "worker-reader":
            self.before_next = None
            hook()
        return super().now_ns()


class Scene:
    """A pool and its running reader; workers are moved by hand."""

    def __init__(self) -> None:
        self.clock = HookedClock()
        self.pool = WorkerPool(MANIFEST, self.clock, lambda: None)
        self.changed = threading.Condition()
        self.lost: list[tuple[int, bool]] = []
        self.results: list[BatchResult] = []
        self.reader = Reader(self.clock, self._on_lost)

    def add_worker(self, number: int) -> tuple[WorkerEnd, Link]:
        end = WorkerEnd()
        link = self.pool.attach(end.gateway_end, number)
        self.reader.add(self.pool, link)
        return end, link

    def submit(self, value: float = 1) -> None:
        lent = self.pool.allocate(1, [(1,)], [4])
        lent[0][:] = np.float32([value]).view(np.uint8)
        self.pool.submit(1, [(1,)], lent, self._keep)

    def _on_lost(self, worker: int, hangs: bool) -> None:
        with self.changed:
            self.lost.append((worker, hangs))
            self.changed.notify_all()

    def _keep(self, result: BatchResult, final: bool) -> None:
        with self.changed:
            self.results.append(result)
            self.changed.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S)

    def still_reads(self) -> None:
        """A worker that comes now is served."""
        results = len(self.results)
        end, _ = self.add_worker(99)
        self.submit()
        frame = end.take()
        assert frame is not None
        end.answer(frame, [2])
        self.wait(lambda: len(self.results) > results)
        assert self.results[-1].error is None


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    scene.reader.start()
    yield scene
    scene.reader.forget(scene.pool)
    scene.pool.close()


def begin(scene: Scene, end: WorkerEnd) -> None:
    """A batch that the worker has begun to run."""
    scene.submit()
    frame = end.take()
    assert frame is not None
    end.start(frame)


def test_a_worker_that_ends_while_its_socket_is_read_stops_nobody(scene: Scene) -> None:
    end, _ = scene.add_worker(1)
    begin(scene, end)
    scene.clock.before_next = lambda: scene.reader.ended(1, "SIGSEGV")
    end.close()
    scene.wait(lambda: scene.results)
    assert "SIGSEGV" in str(scene.results[0].error)
    scene.still_reads()


def test_a_version_that_is_closed_while_its_worker_is_read_stops_nobody(scene: Scene) -> None:
    end, _ = scene.add_worker(1)
    closed = threading.Event()

    def close() -> None:
        scene.reader.forget(scene.pool)
        scene.pool.close()
        closed.set()

    scene.clock.before_next = close
    end.close()
    assert closed.wait(WAIT_S)
    scene.pool = WorkerPool(MANIFEST, scene.clock, lambda: None)
    scene.still_reads()


def test_a_worker_with_two_connections_loses_the_batches_of_both(scene: Scene) -> None:
    """A gateway that was started again gets a second one if the worker loads at that moment."""
    ends = [scene.add_worker(1)[0] for _ in range(2)]
    for end in ends:
        begin(scene, end)
    for end in ends:
        end.close()
    scene.wait(lambda: len(scene.lost) == 2)
    scene.reader.ended(1, "SIGKILL")
    scene.wait(lambda: len(scene.results) == 2)
    assert all("SIGKILL" in str(result.error) for result in scene.results)
    scene.still_reads()


def test_a_worker_whose_end_nobody_explains_fails_its_batch_all_the_same(scene: Scene) -> None:
    end, _ = scene.add_worker(1)
    begin(scene, end)
    end.close()
    scene.wait(lambda: scene.lost == [(1, False)])
    assert not scene.results
    scene.clock.advance_us(1_000_001)
    scene.wait(lambda: scene.results)
    assert isinstance(scene.results[0].error, WorkerLost)


def test_a_worker_that_hangs_is_reported_and_its_batch_fails(scene: Scene) -> None:
    end, _ = scene.add_worker(1)
    begin(scene, end)
    scene.clock.advance_us(TIMEOUT_US + 1)
    scene.wait(lambda: scene.lost == [(1, True)])
    scene.wait(lambda: scene.results)
    assert isinstance(scene.results[0].error, ExecuteTimeout)
    scene.reader.ended(1, "SIGKILL")
    assert len(scene.results) == 1
    scene.still_reads()


def test_the_memory_of_a_worker_that_ended_is_given_back_at_once(scene: Scene) -> None:
    end, link = scene.add_worker(1)
    begin(scene, end)
    gone = weakref.ref(link)
    del link
    end.close()
    scene.wait(lambda: scene.lost)
    scene.reader.ended(1, "SIGKILL")
    scene.still_reads()
    assert gone() is None


def test_a_worker_that_sends_nonsense_is_reported(scene: Scene) -> None:
    end, _ = scene.add_worker(1)
    end.socket.send(b"nonsense")
    scene.wait(lambda: scene.lost == [(1, False)])
    scene.still_reads()
