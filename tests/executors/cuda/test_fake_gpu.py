"""The fake finds what it is made for: missing dependencies, and buffers used again too soon."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from support.fake_gpu import GARBAGE, FakeGpu


def streams(gpu: FakeGpu) -> Sequence[object]:
    gpu.enter_thread()
    return gpu.stream(), gpu.stream(), gpu.stream()


def copied_out(gpu: FakeGpu, waits: bool) -> list[int]:
    copy_in, _, copy_out = streams(gpu)
    source, to = gpu.pinned(2), gpu.pinned(2)
    source.copy_(torch.tensor([1, 2], dtype=torch.uint8))
    arrived, done = gpu.event(timed=False), gpu.event(timed=False)
    gpu.use(copy_in)
    device = gpu.buffer(2)
    gpu.copy(device, source)
    arrived.record(copy_in)
    if waits:
        copy_out.wait_event(arrived)
    gpu.use(copy_out)
    gpu.copy(to, device)
    done.record(copy_out)
    done.synchronize()
    return to.tolist()


def test_with_the_dependency_the_data_comes() -> None:
    assert copied_out(FakeGpu(), waits=True) == [1, 2]


def test_without_the_dependency_it_does_not() -> None:
    assert copied_out(FakeGpu(), waits=False) == [GARBAGE, GARBAGE]


def test_an_eager_stream_runs_at_once_and_a_late_one_when_waited_for() -> None:
    gpu = FakeGpu(eager=("copy_in",))
    copy_in, _, copy_out = streams(gpu)
    source, to = gpu.pinned(1), gpu.pinned(1)
    for stream in (copy_in, copy_out):
        gpu.use(stream)
        gpu.copy(to, source)
    assert gpu.log == ["copy_in:copy"]
    gpu.synchronize()
    assert gpu.log == ["copy_in:copy", "copy_out:copy"]


def test_a_pinned_buffer_used_again_too_soon_sends_the_wrong_bytes() -> None:
    gpu = FakeGpu()
    copy_in, *_ = streams(gpu)
    gpu.use(copy_in)
    source, device = gpu.pinned(1), gpu.buffer(1)
    source.fill_(1)
    gpu.copy(device, source)
    source.fill_(2)
    gpu.synchronize()
    assert device.tolist() == [2]


def test_memory_that_is_not_pinned_is_found() -> None:
    gpu = FakeGpu()
    copy_in, *_ = streams(gpu)
    gpu.use(copy_in)
    with pytest.raises(AssertionError, match="not pinned"):
        gpu.copy(gpu.buffer(1), torch.zeros(1, dtype=torch.uint8))


def test_a_kernel_that_fails_makes_everything_fail() -> None:
    gpu = FakeGpu()
    _, compute, _ = streams(gpu)
    table = torch.ones(4)
    gpu.use(compute)
    index = gpu.buffer(8)
    gpu.synchronize()
    index.fill_(9)
    gpu.run(lambda inputs: [table[inputs[0].view(torch.int64)]], [index])
    gpu.zero(index)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        gpu.synchronize()
    with pytest.raises(RuntimeError, match="illegal memory access"):
        gpu.pinned(1)
