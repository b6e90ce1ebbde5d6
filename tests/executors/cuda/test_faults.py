"""What goes wrong on a GPU: no capture, no memory, a lost device, a hung one. Everyone is told."""

from __future__ import annotations

import threading
import types

import numpy as np
import pytest
import torch

from kedge.core.errors import ExecuteTimeout, LoadFailed, ModelFailed, WorkerLost
from kedge.core.settings import Compile
from kedge.executors.cuda.completion import Completion, InFlight
from kedge.executors.cuda.executor import CudaExecutor
from kedge.executors.cuda.faults import DeviceLost, is_out_of_memory
from support.fake_gpu import FakeGpu
from support.gpu_models import (
    MIX_INPUTS,
    MIX_OUTPUTS,
    Answers,
    answer_of,
    described,
    mix_batch,
    mix_executor,
    submit,
)

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Picky(torch.nn.Module):
    """Raises while it is launched, for batches of five rows."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if a.shape[0] == 5:
            raise ValueError("five is not my number")
        return a[:, :2] + 0, b + 0


class Lookup(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x)


class SlowToLaunch(FakeGpu):
    def __init__(self) -> None:
        super().__init__()
        self.may_copy = threading.Event()
        self.may_copy.set()

    def copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        assert self.may_copy.wait(20)
        super().copy(to, source)


# Capture


def test_a_model_that_cannot_be_captured_is_launched_plainly_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpu = FakeGpu()
    gpu.fail("capture", RuntimeError("operation not permitted when stream is capturing"))
    executor = mix_executor(gpu)
    assert executor.graph_absent == "operation not permitted when stream is capturing"
    assert "cuda.no_graph model=m:1 reason=operation not permitted" in caplog.text
    gpu.log.clear()
    assert answer_of(executor, mix_batch(3, 0)).error is None
    assert "compute:run" in gpu.log
    assert "compute:replay" not in gpu.log


def test_the_reason_is_what_went_wrong_first() -> None:
    """Ending a capture that has failed raises once more, and that says nothing."""
    gpu = FakeGpu()
    ended = RuntimeError("operation failed due to a previous error during capture")
    ended.__context__ = RuntimeError("the model asked for a value on the host")
    gpu.fail("capture", ended)
    assert mix_executor(gpu).graph_absent == "the model asked for a value on the host"


def test_a_model_that_fails_in_any_way_is_not_loaded() -> None:
    class Broken(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            raise ValueError("weights are gone")

    gpu = FakeGpu()
    with pytest.raises(LoadFailed, match=r"warm-up with 1 rows of zeros.*weights are gone"):
        CudaExecutor(described(MIX_INPUTS, MIX_OUTPUTS), Broken(), gpu)


def test_a_load_without_enough_memory_says_what_to_do() -> None:
    gpu = FakeGpu()
    gpu.fail("capture", OUT_OF_MEMORY)
    with pytest.raises(LoadFailed, match=r"out of memory at load.*lower max_batch_size"):
        mix_executor(gpu)


def test_a_load_that_costs_the_device_fails() -> None:
    gpu = FakeGpu()
    gpu.fail("capture", RuntimeError("CUDA error: unspecified launch failure"))
    gpu.fail("synchronize", *[RuntimeError("CUDA error: unspecified launch failure")] * 9)
    with pytest.raises(LoadFailed, match="cuda:0: CUDA error: unspecified launch failure"):
        mix_executor(gpu)


def test_no_thread_is_left_of_a_load_that_failed() -> None:
    before = threading.active_count()
    gpu = FakeGpu()
    gpu.fail("replay", *[RuntimeError("no kernel image is available")] * 3)
    gpu.fail("run", *[RuntimeError("no kernel image is available")] * 9)
    with pytest.raises(LoadFailed, match="no kernel image is available"):
        mix_executor(gpu)
    assert threading.active_count() == before


# Memory


@pytest.mark.parametrize("call", ["run", "copy"])
def test_no_memory_fails_the_batch_alone_and_gives_back_what_was_kept(call: str) -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu, compile=Compile.NONE)
    gpu.fail(call, OUT_OF_MEMORY)
    error = answer_of(executor, mix_batch(3, 0)).error
    assert isinstance(error, ModelFailed)
    assert "cuda:0 is out of memory" in str(error)
    assert gpu.releases == 1
    allocated = len(gpu.buffer_bytes)
    assert answer_of(executor, mix_batch(3, 0)).error is None
    assert executor.batches_free == 2
    for seed in range(3):
        assert answer_of(executor, mix_batch(3, seed)).error is None
    assert len(gpu.buffer_bytes) > allocated, "the slot kept its device memory"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OUT_OF_MEMORY, True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_no_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


# A model that raises


def test_a_model_that_raises_fails_its_batch_and_not_the_one_before() -> None:
    gpu = FakeGpu()
    executor = CudaExecutor(
        described(MIX_INPUTS, MIX_OUTPUTS, rows_max=6, compile=Compile.NONE), Picky(), gpu
    )
    answers = Answers()
    for number, rows in enumerate((4, 5, 6, 5, 3)):
        submit(executor, mix_batch(rows, number), answers, number)
    answers.wait(5)
    failed = [number for number, result in sorted(answers.results.items()) if result.error]
    assert failed == [1, 3]
    assert "model 'm:1' failed: five is not my number" in str(answers.results[1].error)
    assert executor.batches_free == 2


def test_many_failures_that_wait_are_answered_without_deep_recursion() -> None:
    gpu = FakeGpu()
    executor = CudaExecutor(
        described(MIX_INPUTS, MIX_OUTPUTS, rows_max=6, compile=Compile.NONE), Picky(), gpu
    )
    gpu.hold()
    answers = Answers()
    for number in range(3):
        submit(executor, mix_batch(4, number), answers, number)
    for number in range(3, 1200):
        submit(executor, mix_batch(5, number), answers, number)
    gpu.go_on()
    answers.wait(1200)
    assert sum(result.error is not None for result in answers.results.values()) == 1197
    executor.close()


# A lost device


def test_a_lost_device_answers_everyone_tells_the_process_and_takes_no_more() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu)
    lost: list[DeviceLost] = []
    is_lost = threading.Event()
    executor.when_lost(lambda error: (lost.append(error), is_lost.set()))  # type: ignore[arg-type]
    gpu.hold()
    answers = Answers()
    for number in range(5):
        submit(executor, mix_batch(2, number), answers, number)
    gpu.lose()
    gpu.go_on()
    answers.wait(5)
    assert is_lost.wait(20)
    assert len(lost) == 1
    for result in answers.results.values():
        assert isinstance(result.error, WorkerLost)
        assert "illegal memory access" in str(result.error)
    with pytest.raises(DeviceLost, match="illegal memory access"):
        submit(executor, mix_batch(2, 0), answers, 6)
    assert 6 not in answers.results


def test_a_device_lost_at_the_launch_answers_and_raises_in_the_callers_thread() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu)
    gpu.lose()
    answers = Answers()
    with pytest.raises(DeviceLost, match="illegal memory access"):
        submit(executor, mix_batch(2, 0), answers)
    assert isinstance(answers.results[0].error, WorkerLost)


def test_an_index_out_of_range_costs_the_device_as_it_does_on_cuda() -> None:
    executor = CudaExecutor(
        described([("x", "INT64", ())], [("y", "FP32", (2,))]), Lookup().eval(), FakeGpu()
    )
    assert answer_of(executor, [np.int64([0, 3])]).error is None
    assert isinstance(answer_of(executor, [np.int64([0, 9])]).error, WorkerLost)


# A hung device


def test_a_batch_beyond_its_deadline_is_answered_and_the_device_given_up() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu, timeout_us=200_000)
    is_lost = threading.Event()
    executor.when_lost(lambda error: is_lost.set())
    gpu.hold()
    answers = Answers()
    for number in range(4):
        submit(executor, mix_batch(2, number), answers, number)
    answers.wait(4)
    assert is_lost.wait(20)
    assert isinstance(answers.results[0].error, ExecuteTimeout)
    assert "longer than execute_timeout (0.2 s)" in str(answers.results[0].error)
    assert all(isinstance(answers.results[number].error, WorkerLost) for number in (1, 2, 3))
    with pytest.raises(DeviceLost):
        submit(executor, mix_batch(2, 0), answers, 5)
    gpu.go_on()
    executor.close()
    assert len(answers.results) == 4
    assert not answers.answered_twice, "answered again when the device came back"


def test_a_batch_that_is_launched_while_the_device_is_given_up_is_answered_at_once() -> None:
    gpu = SlowToLaunch()
    executor = mix_executor(gpu, timeout_us=100_000)
    executor.when_lost(lambda error: gpu.may_copy.set())
    gpu.hold()
    answers = Answers()
    submit(executor, mix_batch(2, 0), answers, 0)
    gpu.may_copy.clear()
    # Its launch ends after the first batch's deadline; the device would never be idle.
    with pytest.raises(DeviceLost):
        submit(executor, mix_batch(2, 1), answers, 1)
    answers.wait(2)
    assert isinstance(answers.results[1].error, WorkerLost)
    gpu.go_on()


def test_a_device_that_fails_when_a_batch_is_done_is_lost_too() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu)
    gpu.elapsed_time_fails = True
    assert isinstance(answer_of(executor, mix_batch(2, 0)).error, WorkerLost)
    executor.close()
    with pytest.raises(DeviceLost):
        submit(executor, mix_batch(2, 0), Answers())


def test_the_deadline_is_one_batchs_own_and_not_its_wait_for_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns = 100
    clock = types.SimpleNamespace(monotonic_ns=lambda: now_ns)
    monkeypatch.setattr("kedge.executors.cuda.completion.time", clock)
    gpu = FakeGpu()
    gpu.enter_thread()
    done = threading.Semaphore(0)
    lost: list[Exception | None] = []
    completion = Completion(gpu, 10**15, lambda batch: done.release(), lost.append)
    assert not completion.is_overdue(10**18)
    stream = gpu.stream()
    events = [gpu.event(timed=False) for _ in range(2)]
    gpu.hold()
    for event in events:
        event.record(stream)
        slot = types.SimpleNamespace(done=event)
        completion.put(InFlight(slot, lambda result, final: None, []))  # type: ignore[arg-type]
    assert not completion.is_overdue(100 + 10**15)
    assert completion.is_overdue(101 + 10**15)
    now_ns = 5_000
    gpu.hold_after = 1
    gpu.go_on()
    assert done.acquire(timeout=20)
    assert not completion.is_overdue(5_000 + 10**15)
    assert completion.is_overdue(5_001 + 10**15)
    gpu.go_on()
    assert done.acquire(timeout=20)
    assert not completion.is_overdue(10**18)
    completion.close()
    assert not lost
