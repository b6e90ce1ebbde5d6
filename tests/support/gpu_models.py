"""Models, manifests and batches for the tests of the GPU executor."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kedge.core.ports import BatchResult, Executor
from kedge.core.settings import ExecutionLimits
from kedge.core.values import VersionManifest
from kedge.executors.cuda.executor import CudaExecutor
from support.fake_gpu import FakeGpu
from support.torchscript import Declared, manifest

ANSWER_S_MAX = 20.0


class Mix(torch.nn.Module):
    """Two inputs, two outputs, weights; rows do not meet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(a) + b.sum(1, keepdim=True), 2 * b


MIX_INPUTS: list[Declared] = [("a", "FP32", (3,)), ("b", "FP32", (4,))]
MIX_OUTPUTS: list[Declared] = [("y", "FP32", (2,)), ("z", "FP32", (4,))]


def described(
    inputs: Sequence[Declared],
    outputs: Sequence[Declared],
    rows_max: int = 8,
    batched: bool = True,
    **execution: Any,
) -> VersionManifest:
    limits = ExecutionLimits(devices=("cuda:0",), **execution)
    whole = manifest(Path("m.pt"), inputs, outputs, rows_max, batched)
    return replace(whole, execution=limits)


def mix_executor(gpu: FakeGpu, rows_max: int = 8, **execution: Any) -> CudaExecutor:
    described_mix = described(MIX_INPUTS, MIX_OUTPUTS, rows_max, **execution)
    return CudaExecutor(described_mix, Mix().eval(), gpu)


class Answers:
    """Takes results from any thread; copies outputs, which are valid in the callback alone."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self.results: dict[int, BatchResult] = {}
        self.order: list[int] = []
        self.answered_twice: list[int] = []

    def take(self, number: int, result: BatchResult) -> None:
        kept = [output._replace(data=output.data.copy()) for output in result.outputs]
        with self._arrived:
            if number in self.results:
                self.answered_twice.append(number)
            self.results[number] = result._replace(outputs=kept)
            self.order.append(number)
            self._arrived.notify_all()

    def wait(self, count: int) -> None:
        with self._arrived:
            done = self._arrived.wait_for(lambda: len(self.results) >= count, ANSWER_S_MAX)
        assert done, f"{len(self.results)} of {count} answers came"
        assert not self.answered_twice


def mix_batch(rows: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rows, width), dtype=np.float32) for width in (3, 4)]


def submit(
    executor: Executor,
    arrays: Sequence[np.ndarray],
    answers: Answers,
    number: int = 0,
    lends: bool = False,
    batched: bool = True,
) -> None:
    """Submit one batch, from buffers of its own or from those that the executor lends."""
    rows = arrays[0].shape[0] if batched else 1
    dims = [array.shape[1:] if batched else array.shape for array in arrays]
    raw = [np.frombuffer(array.tobytes(), np.uint8).copy() for array in arrays]
    if lends:
        lent = executor.allocate(rows, dims, [one.size for one in raw])
        for buffer, one in zip(lent, raw, strict=True):
            buffer[:] = one
        raw = lent  # type: ignore[assignment]
    executor.submit(rows, dims, raw, lambda result, final: answers.take(number, result))


def answer_of(
    executor: Executor, arrays: Sequence[np.ndarray], batched: bool = True
) -> BatchResult:
    answers = Answers()
    submit(executor, arrays, answers, batched=batched)
    answers.wait(1)
    return answers.results[0]
