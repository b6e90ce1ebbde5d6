"""Who fails when a batch does: a request that is to blame, or all if its model is."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.core.errors import ExecuteTimeout, ModelFailed, ServeError, WorkerLost
from pipeline.test_serve import Scene, request
from support.fakes import DoublingExecutor, served
from support.requests import values_of

LOST = WorkerLost("SIGSEGV")


def refusing(error: ServeError, *values: float) -> DoublingExecutor:
    executor = DoublingExecutor()
    executor.refuse = lambda batch: error if set(batch) & set(values) else None
    return executor


@pytest.mark.parametrize("error", [ModelFailed("13"), LOST, ExecuteTimeout("1 s")])
def test_one_request_that_breaks_its_batch_fails_alone(error: ServeError) -> None:
    executor = refusing(error, 13)
    scene = Scene(served(executor))
    scene.front.queue({number: request(number) for number in (1, 2, 13, 4)})
    assert scene.run()
    assert scene.front.errors == {13: error}
    assert {call: values_of(a) for call, a in scene.front.answers.items()} == {
        1: [2],
        2: [4],
        4: [8],
    }
    assert executor.batches == [[1, 2, 13, 4], [1], [2], [13], [4]]


def test_a_lone_request_whose_worker_ended_runs_once_more() -> None:
    executor = DoublingExecutor()
    errors = [LOST]
    executor.refuse = lambda batch: errors.pop() if errors else None
    scene = Scene(served(executor))
    scene.front.queue({1: request(1)})
    assert scene.run()
    assert values_of(scene.front.answers[1]) == [2]
    assert executor.batches == [[1], [1]]


def test_a_lone_request_that_the_model_refuses_does_not_run_again() -> None:
    executor = refusing(ModelFailed("no"), 1)
    scene = Scene(served(executor))
    scene.front.queue({1: request(1)})
    assert scene.run()
    assert executor.batches == [[1]]
    assert 1 in scene.front.errors


def test_a_lone_request_that_ran_out_of_time_does_not_run_again() -> None:
    error = ExecuteTimeout("1 s")
    executor = refusing(error, 1)
    version = served(executor)
    scene = Scene(version)
    scene.front.queue({1: request(1)})
    assert scene.run()
    assert executor.batches == [[1]]
    assert scene.front.errors == {1: error}
    assert version.statistics.failures == {"BACKEND": 1}


def test_when_worker_after_worker_ends_the_model_is_to_blame() -> None:
    """One batch of eight, then three of them alone: the other five would end five workers more."""
    executor = refusing(LOST, *range(1, 9))
    version = served(executor)
    scene = Scene(version)
    scene.front.queue({number: request(number) for number in range(1, 9)})
    assert scene.run()
    assert executor.batches == [[1, 2, 3, 4, 5, 6, 7, 8], [1], [2], [3]]
    assert scene.front.errors.keys() == set(range(1, 9))
    assert version.statistics.requests_pending == 0
    assert scene.gateway.queue_bytes == 0
    assert version.statistics.fail.count == 8


def test_what_waits_to_run_alone_can_still_be_cancelled() -> None:
    executor = refusing(ModelFailed("13"), 13)
    scene = Scene(served(executor))
    scene.front.queue({number: request(number) for number in (13, 2, 3)})
    scene.front.queue(cancelled=[3])
    assert scene.run()
    assert [3] not in executor.batches
    assert scene.front.answers.keys() == {2}


def test_capacity_that_comes_from_elsewhere_is_used_at_once() -> None:
    executor = DoublingExecutor(is_held=True)
    executor.held.append(lambda: None)  # busy with what is none of ours
    version = served(executor)
    scene = Scene(version)
    scene.front.queue({1: request(1)})

    def capacity_comes() -> None:
        assert scene.gateway.is_busy_with(version)
        executor.held.pop()
        scene.gateway.dispatch()
        assert executor.batches == [[1]]
        executor.release()
        assert not scene.gateway.is_busy_with(version)

    scene.then(capacity_comes)
    assert scene.run()
    assert values_of(scene.front.answers[1]) == [2]


def test_what_runs_alone_has_its_model_for_itself() -> None:
    """A worker would join it with others, and they would go down together again."""
    executor = TwoAtOnce()
    executor.refuse = lambda batch: LOST if batch == [1, 2] else None
    scene = Scene(served(executor))
    scene.front.queue({1: request(1), 2: request(2)})
    scene.then(lambda: scene.front.queue({3: request(3)}))
    for _ in range(8):
        scene.then(executor.release_if_any)
    assert scene.run()
    assert executor.batches == [[1, 2], [3], [1], [2]]
    assert executor.most_beside == {(1.0,): 1, (2.0,): 1}
    assert scene.front.answers.keys() == {1, 2, 3}


class TwoAtOnce(DoublingExecutor):
    """Holds up to two batches; `most_beside`: how many ran with each lone one, itself included."""

    def __init__(self) -> None:
        super().__init__(is_held=True)
        self.most_beside: dict[tuple[float, ...], int] = {}

    @property
    def batches_free(self) -> int:
        return 2 - len(self.held)

    def submit(self, *arguments: Any) -> None:
        super().submit(*arguments)
        if len(self.batches) > 2:
            self.most_beside[tuple(self.batches[-1])] = len(self.held)

    def release_if_any(self) -> None:
        if self.held:
            self.release()
