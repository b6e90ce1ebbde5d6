"""The real device: on a machine without a GPU, that torch has what it calls; with one, that it is
what the fake is. The last tests run on a GPU alone.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from kedge.core.errors import LoadFailed
from kedge.core.settings import Compile
from kedge.executors.cuda.device import Device, Event, Graph, Stream
from kedge.executors.cuda.executor import CudaExecutor
from kedge.executors.cuda.make import make_cuda_executor
from kedge.executors.cuda.torch_device import CudaDevice, find_devices
from kedge.executors.local import LocalExecutor
from kedge.executors.make import make_executor
from support.gpu_models import (
    MIX_INPUTS,
    MIX_OUTPUTS,
    Answers,
    Mix,
    answer_of,
    described,
    mix_batch,
    submit,
)
from support.torchscript import manifest, save

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


def methods(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("protocol", "theirs"),
    [
        (Stream, torch.cuda.Stream),
        (Event, torch.cuda.Event),
        (Graph, torch.cuda.CUDAGraph),
        (Device, CudaDevice),
    ],
)
def test_the_real_classes_have_every_method_of_the_seam(protocol: type, theirs: type) -> None:
    for name in methods(protocol):
        ours, real = getattr(protocol, name), getattr(theirs, name)
        if not callable(ours):
            continue
        wanted = list(inspect.signature(ours).parameters)
        assert list(inspect.signature(real).parameters)[: len(wanted)] == wanted, name


def test_torch_takes_the_arguments_that_are_given() -> None:
    captures = inspect.signature(torch.cuda.graph.__init__).parameters
    assert {"cuda_graph", "pool", "stream", "capture_error_mode"} <= captures.keys()
    assert {"enable_timing", "blocking"} <= inspect.signature(torch.cuda.Event).parameters.keys()
    limit = inspect.signature(torch.cuda.set_per_process_memory_fraction).parameters
    assert list(limit) == ["fraction", "device"]
    for name in ("set_stream", "set_device", "synchronize", "empty_cache", "graph_pool_handle"):
        assert callable(getattr(torch.cuda, name))


@without_gpu
def test_without_a_gpu_the_refusal_says_so(tmp_path: Path) -> None:
    assert find_devices().names == ()
    described_mix = described(MIX_INPUTS, MIX_OUTPUTS)

    def load(*arguments: object) -> None:
        raise AssertionError("the model is loaded before the device is there")

    with pytest.raises(LoadFailed, match="device 'cuda:0' cannot be used"):
        make_cuda_executor(described_mix, "cuda:0", load)  # type: ignore[arg-type]
    path = save(Mix(), tmp_path / "m.pt")
    with pytest.raises(LoadFailed, match="device 'cuda:1' cannot be used"):
        make_executor(manifest(path, MIX_INPUTS, MIX_OUTPUTS), "cuda:1", allow_model_code=False)


@needs_gpu
@pytest.mark.parametrize("compile", [Compile.AUTO, Compile.NONE])
def test_on_a_gpu_every_batch_is_answered_as_on_the_cpu(compile: Compile) -> None:
    described_mix = described(MIX_INPUTS, MIX_OUTPUTS, rows_max=33, compile=compile)
    executor = make_cuda_executor(described_mix, "cuda:0", lambda _, where: Mix().eval().to(where))
    assert (executor.graph_absent == "") is (compile is Compile.AUTO)
    local = LocalExecutor(described_mix, Mix().eval())
    answers = Answers()
    batches = [mix_batch(1 + number * 7 % 33, number) for number in range(500)]
    for number, arrays in enumerate(batches):
        submit(executor, arrays, answers, number, lends=number % 3 == 0)
    answers.wait(len(batches))
    for number, arrays in enumerate(batches):
        wanted = answer_of(local, arrays)
        for got, output in zip(answers.results[number].outputs, wanted.outputs, strict=True):
            np.testing.assert_allclose(
                got.data.view(np.float32), output.data.view(np.float32), rtol=1e-4, atol=1e-5
            )
        assert answers.results[number].infer_ns > 0
    executor.close()


@needs_gpu
def test_on_a_gpu_a_model_that_looks_at_values_is_launched_plainly() -> None:
    class Looks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if float(x.sum()) > 0 else x

    executor = CudaExecutor(
        described([("x", "FP32", (2,))], [("y", "FP32", (2,))]),
        Looks(),
        CudaDevice(0, deterministic=False),
    )
    assert executor.graph_absent
    result = answer_of(executor, [np.float32([[1, 2]])])
    assert result.outputs[0].data.view(np.float32).tolist() == [2, 4]
    executor.close()


@needs_gpu
def test_on_a_gpu_a_batch_without_memory_fails_alone() -> None:
    class Hungry(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[0] == 3:
                torch.empty(1 << 46, dtype=torch.uint8, device=x.device)
            return x

    executor = CudaExecutor(
        described([("x", "FP32", (2,))], [("y", "FP32", (2,))], compile=Compile.NONE),
        Hungry(),
        CudaDevice(0, deterministic=False),
    )
    assert "out of memory" in str(answer_of(executor, [np.zeros((3, 2), np.float32)]).error)
    assert answer_of(executor, [np.zeros((2, 2), np.float32)]).error is None
    executor.close()
