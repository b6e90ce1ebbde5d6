"""The worker's loop between real sockets: what it merges, how it answers, when it stops."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from kedge.core.errors import Internal, ModelFailed
from kedge.core.ports import BatchResult, Buffer, OnResult, OutputTensor
from kedge.core.settings import BatchLimits
from kedge.workers.loop import WorkerLoop
from kedge.workers.pool import WorkerPool
from kedge.workers.reader import Reader
from kedge.workers.slots import Link
from support.fakes import DoublingExecutor, FakeClock, served

WAIT_S = 10
ROWS_MAX = 8


class Gate(DoublingExecutor):
    """Doubles; holds its first batch until the gate opens, so that others gather behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.opened = threading.Event()

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        self.entered.set()
        assert self.opened.wait(WAIT_S)
        super().submit(rows, dims, inputs, on_result)


class Later(DoublingExecutor):
    """Answers from a thread of its own, one batch at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_running = False

    @property
    def batches_free(self) -> int:
        return 0 if self.is_running else 1

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        assert not self.is_running
        self.is_running = True

        def answer(result: BatchResult, final: bool) -> None:
            self.is_running = False
            on_result(result, final)

        run = super().submit
        threading.Thread(target=lambda: run(rows, dims, inputs, answer)).start()


class Gateway:
    """A pool and its reader, as in a gateway process; `lost` has the workers that went."""

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        manifest = served(DoublingExecutor(), batch=BatchLimits(rows_max=rows_max)).manifest
        self.changed = threading.Condition()
        self.lost: list[int] = []
        self.pool = WorkerPool(manifest, FakeClock(), lambda: None)
        self.reader = Reader(FakeClock(), self._lose)
        self.reader.start()
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link: Link = self.pool.attach(ours, 1)
        self.reader.add(self.pool, self.link)
        self.results: list[tuple[list[float], BatchResult]] = []

    def submit(self, *values: float) -> None:
        lent = self.pool.allocate(len(values), [(1,)], [4 * len(values)])
        lent[0][:] = np.float32(values).view(np.uint8)
        self.pool.submit(len(values), [(1,)], lent, self._keep)

    def _lose(self, worker: int, hangs: bool) -> None:
        with self.changed:
            self.lost.append(worker)
            self.changed.notify_all()

    def _keep(self, result: BatchResult, final: bool) -> None:
        values = [v for o in result.outputs for v in o.data.view(np.float32).tolist()]
        with self.changed:
            self.results.append((values, result))
            self.changed.notify_all()

    def wait(self, count: int) -> list[list[float]]:
        """The values of the first `count` answers."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.results) >= count, WAIT_S)
            return [values for values, _ in self.results]


@contextmanager
def looping(
    executor: DoublingExecutor, *gateways: Gateway, rows_max: int = ROWS_MAX
) -> Iterator[None]:
    """A worker's loop on a thread, connected to `gateways`, stopped at the end."""
    schema = served(executor).manifest.schema
    loop = WorkerLoop(executor, schema, rows_max)
    stop_read, stop_write = socket.socketpair()
    loop.watch(stop_read.fileno(), loop.stop)
    for gateway in gateways:
        loop.add_gateway(gateway.theirs)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield
    finally:
        stop_write.send(b"x")
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("make", [DoublingExecutor, Later])
def test_batches_are_run_and_answered_in_order(make: type[DoublingExecutor]) -> None:
    gateway = Gateway()
    with looping(make(), gateway):
        for number in range(20):
            gateway.submit(number, number + 0.5)
            assert gateway.wait(number + 1)[-1] == [2 * number, 2 * number + 1]


def test_small_batches_of_several_gateways_run_as_one() -> None:
    executor = Gate()
    gateways = [Gateway() for _ in range(3)]
    with looping(executor, *gateways):
        gateways[0].submit(1)
        assert executor.entered.wait(WAIT_S)
        for number, gateway in enumerate(gateways):
            gateway.submit(10 + number, 20 + number)
        executor.opened.set()
        assert gateways[0].wait(2) == [[2], [20, 40]]
        assert gateways[1].wait(1) == [[22, 42]]
        assert gateways[2].wait(1) == [[24, 44]]
    assert executor.batches[0] == [1]
    assert sorted(executor.batches[1]) == [10, 11, 12, 20, 21, 22]
    assert len(executor.batches) == 2


def test_a_joined_batch_has_at_most_rows_max_rows() -> None:
    executor = Gate()
    gateways = [Gateway() for _ in range(3)]
    with looping(executor, *gateways, rows_max=5):
        gateways[0].submit(1)
        assert executor.entered.wait(WAIT_S)
        for gateway in gateways:
            gateway.submit(1, 2, 3)
        executor.opened.set()
        for gateway, answers in zip(gateways, (2, 1, 1), strict=True):
            assert gateway.wait(answers)[-1] == [2, 4, 6]
    assert [len(batch) for batch in executor.batches] == [1, 3, 3, 3]


def test_one_of_a_joined_batch_that_fails_fails_alone() -> None:
    executor = Gate()
    executor.refuse = lambda values: ModelFailed("13") if 13 in values else None
    gateways = [Gateway(), Gateway()]
    with looping(executor, *gateways):
        gateways[0].submit(1)
        assert executor.entered.wait(WAIT_S)
        gateways[0].submit(5)
        gateways[1].submit(13)
        executor.opened.set()
        assert gateways[0].wait(2) == [[2], [10]]
        gateways[1].wait(1)
    error = gateways[1].results[0][1].error
    assert isinstance(error, ModelFailed)
    assert executor.batches[2:] == [[5], [13]]


def test_a_gateway_that_goes_leaves_the_others_served() -> None:
    executor = Gate()
    leaving, staying = Gateway(), Gateway()
    with looping(executor, leaving, staying):
        leaving.submit(1)
        assert executor.entered.wait(WAIT_S)
        leaving.submit(2)
        leaving.reader.forget(leaving.pool)
        leaving.pool.close()
        staying.submit(3)
        executor.opened.set()
        assert staying.wait(1) == [[6]]
    assert [2] not in executor.batches[1:2] or [3] in executor.batches


def test_a_bug_in_an_executor_is_an_error_of_its_batch() -> None:
    class Broken(DoublingExecutor):
        def submit(self, *arguments: object) -> None:
            raise RuntimeError("secret")

    gateway = Gateway()
    with looping(Broken(), gateway):
        gateway.submit(1)
        gateway.wait(1)
    error = gateway.results[0][1].error
    assert error is not None
    assert "secret" not in str(error)


def test_without_room_for_answers_their_batches_fail_and_the_worker_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    executor = Gate()
    gateways = [Gateway(), Gateway()]
    with looping(executor, *gateways):
        gateways[0].submit(1)
        assert executor.entered.wait(WAIT_S)
        for gateway in gateways:
            gateway.submit(2)
        with monkeypatch.context() as patched:
            patched.setattr(os, "memfd_create", is_full)
            executor.opened.set()
            gateways[0].wait(2)
            gateways[1].wait(1)
        gateways[0].submit(3)
        assert gateways[0].wait(3)[2] == [6]
    errors = [result.error for gateway in gateways for _, result in gateway.results[:2]]
    assert [type(error) for error in errors] == [Internal] * 3
    assert executor.batches == [[1], [2, 2], [3]]


def test_outputs_that_are_views_of_the_input_are_not_copied() -> None:
    class Identity(DoublingExecutor):
        def submit(
            self,
            rows: int,
            dims: Sequence[tuple[int, ...]],
            inputs: Sequence[Buffer],
            on_result: OnResult,
        ) -> None:
            on_result(BatchResult((OutputTensor(inputs[0], (rows, 1)),), None, 1), True)

    gateway = Gateway()
    with looping(Identity(), gateway):
        gateway.submit(1, 2)
        assert gateway.wait(1) == [[1, 2]]
    assert all(slot.output is None for slot in gateway.link.slots)


def test_a_closed_worker_is_reported_once_and_its_batch_fails_with_how_it_ended() -> None:
    gateway = Gateway()
    gateway.submit(1)
    frame_memory = gateway.link.slots[0].input
    grant = gateway.link.grants[0]
    assert frame_memory is not None
    frame_memory.buffer[:8].view(np.int64)[0] = grant.serial
    gateway.theirs.close()
    with gateway.changed:
        assert gateway.changed.wait_for(lambda: gateway.lost, WAIT_S)
    gateway.reader.ended(1, "SIGSEGV")
    gateway.wait(1)
    assert "SIGSEGV" in str(gateway.results[0][1].error)
    assert gateway.lost == [1]
