"""What other threads and full machines do to the gateway's loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from kedge.core.errors import Internal, WorkerLost
from kedge.core.ports import Buffer, OnResult
from kedge.core.settings import BatchLimits
from pipeline.test_serve import Scene, request
from support.fakes import DoublingExecutor, served
from support.requests import values_of

WAIT_S = 10


def test_a_drain_waits_for_what_another_thread_is_about_to_queue_again() -> None:
    """Its worker ended: the batch runs no more, and its requests do not wait yet."""
    executor = DoublingExecutor(is_held=True)
    scene = Scene(served(executor))
    scene.front.queue({1: request(1), 2: request(2)})
    executor.refuse = lambda batch: WorkerLost("SIGKILL") if len(batch) == 2 else None
    is_failing, may_go_on = threading.Event(), threading.Event()
    on_error = scene.gateway._on_error

    def slow_on_error(*arguments: object) -> None:
        is_failing.set()
        may_go_on.wait(0.2)  # or for the loop to believe that all is done
        on_error(*arguments)  # type: ignore[arg-type]

    scene.gateway._on_error = slow_on_error  # type: ignore[method-assign]
    other = threading.Thread(target=executor.release)
    now_ns = scene.clock.now_ns

    def look_at_the_time() -> int:
        """The loop does so before it begins to drain."""
        if scene.gateway.draining and other.ident is None:
            other.start()
            assert is_failing.wait(WAIT_S)
        return now_ns()

    scene.clock.now_ns = look_at_the_time  # type: ignore[method-assign]
    scene.then(scene.gateway.stop)
    # A worker takes seconds to start again, longer than the loop lingers after the last answer.
    for _ in range(300):
        scene.then(lambda: None)
    for _ in range(4):
        scene.then(lambda: executor.held and executor.release())
    assert scene.run()
    other.join(WAIT_S)
    assert scene.front.answers.keys() == {1, 2}


class Full(DoublingExecutor):
    """`allocate` fails as often as `failures` says."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        return super().allocate(rows, dims, nbytes)


def test_a_batch_that_finds_no_memory_fails_and_the_loop_goes_on() -> None:
    version = served(Full(1))
    scene = Scene(version)
    scene.front.queue({1: request(1)})
    scene.then(lambda: scene.front.queue({2: request(2)}))
    assert scene.run()
    assert isinstance(scene.front.errors[1], Internal)
    assert values_of(scene.front.answers[2]) == [4]
    assert not scene.gateway.is_busy_with(version)


def test_a_batch_whose_executor_raises_after_it_answered_is_not_answered_again() -> None:
    class Raising(DoublingExecutor):
        def submit(
            self,
            rows: int,
            dims: Sequence[tuple[int, ...]],
            inputs: Sequence[Buffer],
            on_result: OnResult,
        ) -> None:
            super().submit(rows, dims, inputs, on_result)
            raise RuntimeError("a bug")

    version = served(Raising())
    scene = Scene(version)
    scene.front.queue({1: request(1)})
    assert scene.run()
    assert values_of(scene.front.answers[1]) == [2]
    assert not scene.gateway.is_busy_with(version)


class TwoAtOnce(DoublingExecutor):
    """Holds up to two batches."""

    def __init__(self) -> None:
        super().__init__(is_held=True)

    @property
    def batches_free(self) -> int:
        return 2 - len(self.held)


@pytest.mark.parametrize("shapes", [1, 2])
def test_what_must_run_alone_gets_its_turn_beside_other_shapes(shapes: int) -> None:
    executor = TwoAtOnce()
    executor.refuse = lambda batch: WorkerLost("SIGKILL") if batch == [1, 2] else None
    scene = Scene(served(executor, dims=(-1,), batch=BatchLimits(rows_max=2)))
    scene.front.queue({1: request(1), 2: request(2)})
    others = iter(range(10, 100))

    def more() -> None:
        """Always one batch of other requests more before one ends."""
        number = next(others)
        row = [float(number)] * shapes
        scene.front.queue({number: request(*row, shape=[1, shapes])})

    for _ in range(6):
        scene.then(more)
        scene.then(more)
        scene.then(lambda: executor.held and executor.release())
    answered_in_time: list[int] = []
    scene.then(lambda: answered_in_time.extend(scene.front.answers.keys() & {1, 2}))
    for _ in range(20):
        scene.then(lambda: executor.held and executor.release())
    assert scene.run()
    assert sorted(answered_in_time) == [1, 2]
