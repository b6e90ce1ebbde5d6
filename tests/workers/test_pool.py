"""Which worker gets a batch, and what becomes of it if the worker answers, lies, hangs or ends."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kedge.core.datatypes import DATATYPES
from kedge.core.errors import ExecuteTimeout, InvalidRequest, ModelFailed, Unavailable, WorkerLost
from kedge.core.ports import BatchResult
from kedge.core.settings import ExecutionLimits
from kedge.core.values import ModelSchema, TensorSpec
from kedge.workers.frames import IN_INPUT, IN_OUTPUT, Place, ResultFrame, pack_result
from kedge.workers.pool import MOVES_MAX, WorkerPool
from kedge.workers.segment import Segment
from kedge.workers.slots import Link, LinkBroken
from support.fakes import DoublingExecutor, FakeClock, served
from support.worker_end import WorkerEnd

TIMEOUT_US = 1_000_000
MANIFEST = replace(
    served(DoublingExecutor()).manifest, execution=ExecutionLimits(timeout_us=TIMEOUT_US)
)


class Scene:
    """A pool with as many workers as a test adds."""

    def __init__(self, manifest=MANIFEST) -> None:
        self.clock = FakeClock()
        self.kicks = 0
        self.pool = WorkerPool(manifest, self.clock, self._kick)
        self.links: list[Link] = []
        self.results: dict[float, BatchResult] = {}
        self.values: dict[float, list[float]] = {}
        self.on_first_result: Callable[[], None] = lambda: None

    def _kick(self) -> None:
        self.kicks += 1

    def add_worker(self) -> WorkerEnd:
        end = WorkerEnd()
        self.links.append(self.pool.attach(end.gateway_end, len(self.links)))
        return end

    def submit(self, *values: float) -> None:
        """One batch of one-number rows, named by its first."""
        lent = self.pool.allocate(len(values), [(1,)], [4 * len(values)])
        lent[0][:] = np.float32(values).view(np.uint8)
        self.pool.submit(len(values), [(1,)], lent, lambda r, final: self.keep(values[0], r))

    def keep(self, name: float, result: BatchResult) -> None:
        assert name not in self.results, "answered twice"
        if not self.results:
            self.results[name] = result
            self.on_first_result()
        self.results[name] = result
        # What the memory has now: it may be used again as soon as this returns.
        self.values[name] = [v for o in result.outputs for v in o.data.view(np.float32).tolist()]

    def receive(self, worker: int = 0) -> None:
        self.pool.receive(self.links[worker].receive(self.clock.now_ns()))

    def error(self, name: float) -> object:
        return type(self.results[name].error)


def test_a_batch_goes_to_a_worker_and_its_answer_comes_back() -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1, 2, 3)
    frame = worker.take()
    assert frame is not None
    assert worker.values(frame) == [1, 2, 3]
    scene.clock.advance_us(1)
    worker.answer(frame, [2, 4, 6])
    scene.receive()
    assert scene.values[1] == [2, 4, 6]
    assert scene.results[1].infer_ns == 5
    assert scene.pool.is_idle


def test_a_worker_is_granted_two_batches_and_no_more() -> None:
    scene = Scene()
    assert scene.pool.batches_free == 0
    worker = scene.add_worker()
    assert scene.pool.batches_free == 2
    scene.submit(1)
    assert scene.pool.batches_free == 1
    scene.submit(2)
    assert scene.pool.batches_free == 0
    first = worker.take()
    assert first is not None
    kicks = scene.kicks
    worker.answer(first, [2])
    scene.receive()
    assert scene.pool.batches_free == 1
    assert scene.kicks == kicks + 1


def test_batches_go_to_the_worker_that_has_least_to_do() -> None:
    scene = Scene()
    workers = [scene.add_worker(), scene.add_worker()]
    for value in range(4):
        scene.submit(value)
    assert [len(link.grants) for link in scene.links] == [2, 2]
    assert sorted(worker.values(frame) for worker in workers for frame in [worker.take()]) == [
        [0],
        [1],
    ]


def test_memory_is_sent_once_and_again_when_it_has_grown() -> None:
    scene = Scene()
    worker = scene.add_worker()
    sizes = []
    for rows in (1, 1, 2000, 1):
        scene.submit(*range(1, rows + 1))
        frame = worker.take()
        assert frame is not None
        sizes.append(frame.segment_bytes)
        assert worker.values(frame) == list(range(1, rows + 1))
        worker.send(ResultFrame(frame.slot, frame.serial, True, 0, error=("model_failed", "no")))
        scene.receive()
        scene.results.clear()
    assert sizes == [4096, 0, 8192, 0]


def test_an_answer_that_lies_in_the_input_is_not_copied() -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(7)
    frame = worker.take()
    assert frame is not None
    place = Place(frame.inputs[0].offset, 4, (1, 1), IN_INPUT)
    worker.send(ResultFrame(frame.slot, frame.serial, True, 0, 0, (place,)))
    scene.receive()
    assert scene.values[7] == [7]


def test_an_error_keeps_its_kind_and_its_words() -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    frame = worker.take()
    assert frame is not None
    worker.send(
        ResultFrame(frame.slot, frame.serial, True, 0, error=("invalid_request", "not UTF-8"))
    )
    scene.receive()
    assert scene.error(1) is InvalidRequest
    assert str(scene.results[1].error) == "not UTF-8"


def test_when_a_worker_ends_only_what_it_ran_fails() -> None:
    scene = Scene()
    first = scene.add_worker()
    scene.submit(1)
    scene.submit(2)
    frame = first.take()
    assert frame is not None
    first.start(frame)
    first.close()
    with pytest.raises(LinkBroken):
        scene.receive()
    scene.pool.drop(scene.links[0], scene.pool.ended("SIGSEGV"))
    assert scene.error(1) is WorkerLost
    assert "SIGSEGV" in str(scene.results[1].error)
    assert 2 not in scene.results
    assert scene.pool.batches_free == 0
    second = scene.add_worker()
    frame = second.take()
    assert frame is not None
    assert second.values(frame) == [2]
    second.answer(frame, [4])
    scene.receive(1)
    assert scene.values[2] == [4]


def test_what_was_not_started_moves_to_another_worker_at_once() -> None:
    scene = Scene()
    workers = [scene.add_worker(), scene.add_worker()]
    scene.submit(1)
    owner = next(i for i, link in enumerate(scene.links) if link.grants)
    workers[owner].close()
    scene.pool.drop(scene.links[owner], scene.pool.ended("SIGKILL"))
    frame = workers[1 - owner].take()
    assert frame is not None
    assert workers[1 - owner].values(frame) == [1]


def test_a_batch_is_overdue_just_after_its_execute_timeout() -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.clock.advance_us(10 * TIMEOUT_US)
    scene.submit(1)
    scene.submit(2)
    scene.clock.advance_us(TIMEOUT_US)
    assert scene.pool.overdue(scene.clock.now_ns()) == []
    scene.clock.advance_us(1)
    assert scene.pool.overdue(scene.clock.now_ns()) == scene.links
    # The next batch's time begins when the one before it is answered.
    frame = worker.take()
    assert frame is not None
    worker.answer(frame, [2])
    scene.receive()
    assert scene.pool.overdue(scene.clock.now_ns()) == []
    scene.clock.advance_us(TIMEOUT_US + 1)
    assert scene.pool.overdue(scene.clock.now_ns()) == scene.links


def test_a_worker_that_hangs_fails_what_it_runs_with_the_timeout_in_words() -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    frame = worker.take()
    assert frame is not None
    worker.start(frame)
    scene.pool.drop(scene.links[0], scene.pool.timed_out())
    assert scene.error(1) is ExecuteTimeout
    assert "1 s" in str(scene.results[1].error)


def test_of_batches_that_a_worker_joined_none_is_known_to_hang() -> None:
    """Each runs once more; an error that blames the batch would fail the others for one."""
    scene = Scene()
    worker = scene.add_worker()
    for value in (1, 2):
        scene.submit(value)
        frame = worker.take()
        assert frame is not None
        worker.start(frame)
    scene.pool.drop(scene.links[0], scene.pool.timed_out())
    assert scene.error(1) is scene.error(2) is WorkerLost
    assert "1 s" in str(scene.results[1].error)


def test_without_any_worker_to_come_everything_is_refused_at_once() -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    worker.close()
    scene.pool.drop(scene.links[0], scene.pool.ended("exit code 1"))
    scene.pool.set_down(Unavailable("no worker"))
    assert scene.error(1) is Unavailable
    assert scene.pool.batches_free > 0
    scene.submit(2)
    assert scene.error(2) is Unavailable
    scene.add_worker()
    scene.submit(3)
    assert 3 not in scene.results


LIES = {
    "a slot that is none": lambda f: ResultFrame(9, f.serial, True, 0),
    "a batch that it does not have": lambda f: ResultFrame(f.slot, f.serial + 1, True, 0),
    "no output": lambda f: ResultFrame(f.slot, f.serial, True, 0),
    "an output without memory": lambda f: ResultFrame(
        f.slot, f.serial, True, 0, 0, (Place(0, 4, (1, 1), IN_OUTPUT),)
    ),
    "an output beyond its memory": lambda f: ResultFrame(
        f.slot, f.serial, True, 0, 0, (Place(4093, 4, (1, 1), IN_INPUT),)
    ),
    "an output before its memory": lambda f: ResultFrame(
        f.slot, f.serial, True, 0, 0, (Place(-8, 4, (1, 1), IN_INPUT),)
    ),
    "more rows than it was given": lambda f: ResultFrame(
        f.slot, f.serial, True, 0, 0, (Place(64, 8, (2, 1), IN_INPUT),)
    ),
    "an output of less than no bytes": lambda f: ResultFrame(
        f.slot, f.serial, True, 0, 0, (Place(64, -4, (1, 1), IN_INPUT),)
    ),
    "fewer bytes than its shape": lambda f: ResultFrame(
        f.slot, f.serial, True, 0, 0, (Place(64, 3, (1, 1), IN_INPUT),)
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_lies_is_not_believed(lie: str) -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    frame = worker.take()
    assert frame is not None
    worker.send(LIES[lie](frame))
    with pytest.raises(LinkBroken):
        scene.receive()
    assert not scene.results


def answer_strings(scene: Scene, ends: list[int], nbytes: int, rows: int = 2) -> None:
    """A new worker answers a batch with strings whose row ends it makes up."""
    worker = scene.add_worker()
    scene.submit(*range(1, rows + 1))
    frame = worker.take()
    assert frame is not None
    segment = Segment.create(4096)
    segment.buffer[: 8 * rows].view(np.int64)[:] = ends
    place = Place(64, nbytes, (rows, 1), IN_OUTPUT, 0)
    worker.send(ResultFrame(frame.slot, frame.serial, True, 0, 4096, (place,)), segment)


STRINGS = ModelSchema(MANIFEST.schema.inputs, (TensorSpec("y", DATATYPES["BYTES"], (1,)),), True, 8)


def test_row_ends_of_strings_are_copied() -> None:
    scene = Scene(replace(MANIFEST, schema=STRINGS))
    answer_strings(scene, [5, 12], 12)
    scene.receive()
    (output,) = scene.results[1].outputs
    assert output.row_ends is not None
    assert output.row_ends.tolist() == [5, 12]


@pytest.mark.parametrize(
    "ends",
    [
        [5, 11],
        [13, 12],
        [-1, 12],
        # Ascending for whoever subtracts in 64 bits.
        [2**63 - 1, -(2**63), -1, 12],
    ],
)
def test_row_ends_that_are_none_are_refused(ends: list[int]) -> None:
    scene = Scene(replace(MANIFEST, schema=STRINGS))
    answer_strings(scene, ends, 12, len(ends))
    with pytest.raises(LinkBroken, match="row ends"):
        scene.receive()


def test_what_a_worker_answered_before_its_end_counts() -> None:
    """The kernel tells of a batch that was never read before it hands over the answer."""
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    scene.submit(2)
    frame = worker.take()
    assert frame is not None
    worker.start(frame)
    worker.answer(frame, [2])
    worker.close()
    scene.receive()
    assert scene.values == {1: [2]}
    with pytest.raises(LinkBroken):
        scene.receive()


def test_a_batch_is_answered_once_though_its_worker_ends_while_it_is_handed_over() -> None:
    scene = Scene()
    worker = scene.add_worker()
    for value in (1, 2):
        scene.submit(value)
        frame = worker.take()
        assert frame is not None
        worker.start(frame)
        worker.answer(frame, [2 * value])
    # The first answer is on its way, the second one waits; then the control process tells.
    scene.on_first_result = lambda: scene.pool.drop(scene.links[0], scene.pool.ended("SIGSEGV"))
    scene.receive()
    assert scene.values[1] == [2]
    assert scene.results.keys() == {1, 2}
    assert scene.pool.is_idle


def test_a_slot_that_is_being_filled_is_not_given_to_another_batch() -> None:
    """A worker ends while the tensors of the next batch are copied for the other one."""
    scene = Scene()
    workers = [scene.add_worker(), scene.add_worker()]
    scene.submit(1)
    owner = next(number for number, link in enumerate(scene.links) if link.grants)
    other = workers[1 - owner]
    lent = scene.pool.allocate(1, [(1,)], [4])
    scene.pool.drop(scene.links[owner], scene.pool.ended("SIGKILL"))
    lent[0][:] = np.float32([2]).view(np.uint8)
    scene.pool.submit(1, [(1,)], lent, lambda result, final: scene.keep(2, result))
    frames = [other.take(), other.take()]
    assert all(frames)
    assert [other.values(frame) for frame in frames if frame] == [[1], [2]]


def test_a_slot_that_was_lent_for_nothing_is_free_again() -> None:
    scene = Scene()
    scene.add_worker()
    for _ in range(5):
        scene.pool.allocate(1, [(1,)], [4])
    scene.submit(1)
    scene.submit(2)
    assert [len(link.grants) for link in scene.links] == [2]


def test_one_instance_that_cannot_start_does_not_stop_the_others() -> None:
    scene = Scene()
    scene.add_worker()
    scene.pool.set_down(Unavailable("cuda:1 is gone"))
    scene.submit(1)
    assert not scene.results


def test_what_runs_when_a_version_is_closed_by_force_is_answered() -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    frame = worker.take()
    assert frame is not None
    worker.start(frame)
    scene.submit(2)
    scene.pool.close()
    assert scene.error(1) is Unavailable
    assert scene.error(2) is Unavailable
    assert scene.pool.is_idle


def test_a_batch_that_no_worker_begins_fails_in_the_end() -> None:
    """Workers that end as soon as they read it, or that hide that they began."""
    scene = Scene()
    scene.add_worker()
    scene.submit(1)
    for number in range(MOVES_MAX):
        scene.pool.drop(scene.links[number], scene.pool.ended("exit code 1"))
        assert not scene.results
        scene.add_worker()
    scene.pool.drop(scene.links[-1], scene.pool.ended("exit code 1"))
    assert scene.error(1) is WorkerLost


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_that_come_with_nonsense_are_closed() -> None:
    nonsense = [b"nonsense", b"", pack_result(ResultFrame(9, 1, True, 0))]
    for data in nonsense:
        scene = Scene()
        worker = scene.add_worker()
        before = descriptors()
        sent = os.memfd_create("unasked")
        rights = array.array("i", [sent, sent])
        worker.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(sent)
        with pytest.raises(LinkBroken):
            scene.receive()
        assert descriptors() == before


def test_a_worker_cannot_answer_in_parts() -> None:
    """Every part would be answered to the same calls, and keep the worker from being overdue."""
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    frame = worker.take()
    assert frame is not None
    worker.send(ResultFrame(frame.slot, frame.serial, False, 0, error=("model_failed", "no")))
    with pytest.raises(LinkBroken):
        scene.receive()


@pytest.mark.parametrize(("told", "counted"), [(-5, 0), (5, 5), (2**63 - 1, 1_000)])
def test_a_worker_cannot_count_more_time_than_there_was(told: int, counted: int) -> None:
    """The sums of the statistics must fit into 64 bits, or nobody can read any."""
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    frame = worker.take()
    assert frame is not None
    scene.clock.advance_us(1)
    place = Place(frame.inputs[0].offset, 4, (1, 1), IN_INPUT)
    worker.send(ResultFrame(frame.slot, frame.serial, True, told, 0, (place,)))
    scene.receive()
    assert scene.results[1].infer_ns == counted


@pytest.mark.parametrize("reason", ["unauthenticated", "shutting_down", "execute_timeout", "x"])
def test_a_worker_cannot_speak_for_the_server(reason: str) -> None:
    scene = Scene()
    worker = scene.add_worker()
    scene.submit(1)
    frame = worker.take()
    assert frame is not None
    worker.send(ResultFrame(frame.slot, frame.serial, True, 0, error=(reason, "believe me")))
    scene.receive()
    assert scene.error(1) is ModelFailed
    assert str(scene.results[1].error) == "believe me"
