"""The GPU executor against the CPU one, on a device that runs its streams in every legal order."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.core.errors import InvalidRequest, LoadFailed
from kedge.core.settings import Compile
from kedge.executors.cuda.executor import CudaExecutor
from kedge.executors.deterministic import bit_equal
from kedge.executors.local import LocalExecutor
from kedge.executors.tensors import TORCH_DTYPES
from support.fake_gpu import STREAM_NAMES, FakeGpu
from support.gpu_models import (
    MIX_INPUTS,
    MIX_OUTPUTS,
    Answers,
    Mix,
    answer_of,
    described,
    mix_batch,
    mix_executor,
    submit,
)

ORDERS = [
    pytest.param((), id="late"),
    pytest.param(STREAM_NAMES, id="early"),
    *[pytest.param((name,), id=f"{name}-early") for name in STREAM_NAMES],
    pytest.param(("copy_in", "copy_out"), id="compute-late"),
    pytest.param(("copy_in", "compute"), id="copy_out-late"),
]


class Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Flip(torch.nn.Module):
    """Not contiguous, and in another order than the memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


class Elsewhere(torch.nn.Module):
    """Answers on another device than it was moved to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to("meta")


class Across(torch.nn.Module):
    """Looks across rows: whatever stands in the padding is in every answer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.sum(0, keepdim=True)


def expected(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        answer = Mix().eval()(*[torch.from_numpy(array) for array in arrays])
    return [tensor.numpy() for tensor in answer]


def floats(result: object, index: int) -> np.ndarray:
    output = result.outputs[index]  # type: ignore[attr-defined]
    return output.data.view(np.float32).reshape(output.shape)


def check_mix(answers: Answers, batches: Sequence[Sequence[np.ndarray]]) -> None:
    for number, arrays in enumerate(batches):
        result = answers.results[number]
        assert result.error is None, result.error
        for index, wanted in enumerate(expected(arrays)):
            np.testing.assert_allclose(floats(result, index), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compile", [Compile.AUTO, Compile.NONE])
@pytest.mark.parametrize("eager", ORDERS)
def test_every_number_of_rows_is_answered_as_on_the_cpu(
    eager: Sequence[str], compile: Compile
) -> None:
    gpu = FakeGpu(eager)
    executor = mix_executor(gpu, rows_max=9, compile=compile)
    local = LocalExecutor(executor.manifest, Mix().eval())
    for rows in range(1, 10):
        arrays = mix_batch(rows, seed=rows)
        got, wanted = answer_of(executor, arrays), answer_of(local, arrays)
        assert [output.shape for output in got.outputs] == [(rows, 2), (rows, 4)]
        for index in range(2):
            np.testing.assert_allclose(floats(got, index), floats(wanted, index), rtol=1e-5)
    assert gpu.captures == (0 if compile is Compile.NONE else 5)
    executor.close()


@pytest.mark.parametrize("compile", [Compile.AUTO, Compile.NONE])
@pytest.mark.parametrize("eager", ORDERS)
def test_batches_that_follow_each_other_at_once_do_not_mix(
    eager: Sequence[str], compile: Compile
) -> None:
    gpu = FakeGpu(eager)
    executor = mix_executor(gpu, compile=compile)
    gpu.hold()
    answers = Answers()
    batches = [mix_batch(4, seed=number) for number in range(6)]
    for number, arrays in enumerate(batches):
        submit(executor, arrays, answers, number)
    gpu.go_on()
    answers.wait(6)
    check_mix(answers, batches)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.integers(1, 8), min_size=1, max_size=12),
    lends=st.lists(st.booleans(), min_size=12, max_size=12),
    seed=st.integers(0, 2**32),
    compile=st.sampled_from([Compile.AUTO, Compile.NONE]),
    holds=st.booleans(),
)
def test_any_sequence_of_batches_in_any_order_of_streams_is_answered_right(
    rows: list[int], lends: list[bool], seed: int, compile: Compile, holds: bool
) -> None:
    gpu = FakeGpu(chance=random.Random(seed))
    executor = mix_executor(gpu, compile=compile)
    batches = [mix_batch(count, seed=number) for number, count in enumerate(rows)]
    answers = Answers()
    if holds:
        gpu.hold()
    for number, arrays in enumerate(batches):
        submit(executor, arrays, answers, number, lends[number])
    gpu.go_on()
    answers.wait(len(batches))
    check_mix(answers, batches)
    executor.close()
    assert executor.batches_free == 2


@pytest.mark.parametrize("compile", [Compile.AUTO, Compile.NONE])
@pytest.mark.parametrize("datatype", sorted(TORCH_DTYPES))
def test_every_datatype_passes_bit_by_bit(datatype: str, compile: Compile) -> None:
    executor = CudaExecutor(
        described([("x", datatype, (3,))], [("y", datatype, (3,))], compile=compile),
        Identity(),
        FakeGpu(),
    )
    item_bytes = torch.empty(0, dtype=TORCH_DTYPES[datatype]).element_size()
    raw = np.arange(2 * 3 * item_bytes, dtype=np.uint8) % (2 if datatype == "BOOL" else 255)
    answers = Answers()
    executor.submit(2, [(3,)], [raw], lambda result, final: answers.take(0, result))
    answers.wait(1)
    assert answers.results[0].outputs[0].shape == (2, 3)
    assert answers.results[0].outputs[0].data.tobytes() == raw.tobytes()


def test_not_a_number_is_an_answer() -> None:
    executor = CudaExecutor(
        described([("x", "FP32", (2,))], [("y", "FP32", (2,))]), Identity(), FakeGpu()
    )
    result = answer_of(executor, [np.float32([[np.nan, np.inf]])])
    assert result.error is None
    assert np.isnan(floats(result, 0)[0, 0])
    assert np.isinf(floats(result, 0)[0, 1])


def test_an_answer_that_is_not_contiguous_is_laid_out_in_row_major_order() -> None:
    executor = CudaExecutor(
        described([("x", "FP32", (2, 3))], [("y", "FP32", (3, 2))]), Flip(), FakeGpu()
    )
    x = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    assert answer_of(executor, [x]).outputs[0].data.tobytes() == x.transpose(0, 2, 1).tobytes()


def test_a_model_without_batch_dimension_gets_whole_shapes() -> None:
    gpu = FakeGpu()
    executor = CudaExecutor(
        described([("x", "INT64", (2, 2))], [("y", "INT64", (2, 2))], batched=False),
        Identity(),
        gpu,
    )
    x = np.arange(4).reshape(2, 2)
    result = answer_of(executor, [x], batched=False)
    assert gpu.captures == 1
    assert result.outputs[0].shape == (2, 2)
    assert result.outputs[0].data.tobytes() == x.tobytes()


def test_a_scalar_without_batch_dimension_passes() -> None:
    executor = CudaExecutor(
        described([("x", "FP32", ())], [("y", "FP32", ())], batched=False), Identity(), FakeGpu()
    )
    result = answer_of(executor, [np.float32(7)], batched=False)
    assert result.outputs[0].shape == ()
    assert result.outputs[0].data.view(np.float32).tolist() == [7]


def test_free_dimensions_take_any_size_and_zero_without_a_graph() -> None:
    gpu = FakeGpu()
    executor = CudaExecutor(
        described([("x", "FP32", (-1,))], [("y", "FP32", (-1,))]), Identity(), gpu
    )
    assert gpu.captures == 0
    assert executor.graph_absent == "an input has free dimensions"
    for size in (5, 0, 1, 1000, 3):
        x = np.random.default_rng(size).standard_normal((2, size), dtype=np.float32)
        result = answer_of(executor, [x])
        assert result.error is None
        assert result.outputs[0].shape == (2, size)
        assert result.outputs[0].data.tobytes() == x.tobytes()


def test_a_fixed_dimension_of_zero_passes() -> None:
    executor = CudaExecutor(
        described([("x", "FP32", (0,))], [("y", "FP32", (0,))]), Identity(), FakeGpu()
    )
    assert answer_of(executor, [np.zeros((3, 0), np.float32)]).outputs[0].shape == (3, 0)


@pytest.mark.parametrize("compile", [Compile.AUTO, Compile.NONE])
def test_padding_is_zeros_and_never_rows_of_an_earlier_batch(compile: Compile) -> None:
    executor = CudaExecutor(
        described(
            [("x", "FP32", (1,))], [("y", "FP32", (1,))], batch_buckets=(4,), compile=compile
        ),
        Across(),
        FakeGpu(),
    )
    for _ in range(4):
        answer_of(executor, [np.full((4, 1), 100, np.float32)])
    result = answer_of(executor, [np.float32([[1], [2], [3]])])
    assert floats(result, 0).tolist() == [[7], [8], [9]]


def test_deterministic_runs_every_batch_in_the_one_largest_bucket() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu, deterministic=True)
    assert gpu.captures == 1
    alone = mix_batch(1, seed=5)
    joined = [np.concatenate([one, two]) for one, two in zip(alone, mix_batch(6, 6), strict=True)]
    single, among = answer_of(executor, alone), answer_of(executor, joined)
    assert floats(single, 0).tobytes() == floats(among, 0)[:1].tobytes()


def test_deterministic_answers_have_the_bits_of_the_cpu_executors() -> None:
    described_mix = described(MIX_INPUTS, MIX_OUTPUTS, deterministic=True)
    forward = bit_equal(Mix().eval(), 8)
    executor, local = (
        CudaExecutor(described_mix, forward, FakeGpu()),
        LocalExecutor(described_mix, forward),
    )
    for rows in range(1, 9):
        arrays = mix_batch(rows, seed=rows)
        got, wanted = answer_of(executor, arrays), answer_of(local, arrays)
        for index in range(2):
            assert floats(got, index).tobytes() == floats(wanted, index).tobytes()


def test_buffers_that_were_lent_hold_exactly_the_batch_and_are_not_copied() -> None:
    executor = mix_executor(FakeGpu())
    lent = executor.allocate(3, [(3,), (4,)], [36, 48])
    assert [buffer.size for buffer in lent] == [36, 48]
    assert executor.allocate(3, [(3,), (4,)], [36, 48])[0].ctypes.data == lent[0].ctypes.data


def test_two_batches_are_free_and_more_than_that_wait_inside() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu)
    gpu.hold()
    answers = Answers()
    batches = [mix_batch(1 + number % 8, seed=number) for number in range(7)]
    free = []
    for number, arrays in enumerate(batches):
        free.append(executor.batches_free)
        submit(executor, arrays, answers, number, lends=True)
    assert free == [2, 1, 0, 0, 0, 0, 0]
    assert repr(executor).endswith("graphs, 7 in flight, 4 waiting>")
    gpu.go_on()
    answers.wait(7)
    check_mix(answers, batches)
    assert answers.order == list(range(7))


def test_a_callback_may_submit_and_its_outputs_stay_until_it_returns() -> None:
    gpu = FakeGpu(STREAM_NAMES)
    executor = mix_executor(gpu)
    answers = Answers()
    batches = [mix_batch(4, seed=number) for number in range(6)]

    def on_first(result: object, final: bool) -> None:
        for number in range(1, 6):
            submit(executor, batches[number], answers, number)
        answers.take(0, result)  # type: ignore[arg-type]

    dims = [(3,), (4,)]
    executor.submit(4, dims, [array.view(np.uint8).reshape(-1) for array in batches[0]], on_first)
    answers.wait(6)
    check_mix(answers, batches)


def test_a_callback_that_raises_harms_nobody() -> None:
    executor = mix_executor(FakeGpu())

    def broken(result: object, final: bool) -> None:
        raise ValueError("consumer")

    executor.submit(1, [(3,), (4,)], [np.zeros(12, np.uint8), np.zeros(16, np.uint8)], broken)
    assert answer_of(executor, mix_batch(2, 0)).error is None
    executor.close()
    assert executor.batches_free == 2


@pytest.mark.parametrize("size", [11, 13, 1, 0])
def test_an_input_of_another_size_is_refused(size: int) -> None:
    executor = mix_executor(FakeGpu())
    answers = Answers()
    executor.submit(
        1,
        [(3,), (4,)],
        [np.zeros(size, np.uint8), np.zeros(16, np.uint8)],
        lambda result, final: answers.take(0, result),
    )
    error = answers.results[0].error
    assert isinstance(error, InvalidRequest)
    assert f"input 'a': expected 12 bytes, got {size} bytes" in str(error)
    assert answer_of(executor, mix_batch(1, 0)).error is None


@pytest.mark.parametrize(
    ("module", "output", "message"),
    [
        (Identity(), ("y", "FP32", (3,)), r"'y': expected shape \[8, 3\], got \[8, 2\]"),
        (Identity(), ("y", "FP64", (2,)), r"'y': expected FP64, got torch.float32"),
        (Elsewhere(), ("y", "FP32", (2,)), r"model 'm:1' is on cpu and answers on meta"),
    ],
)
def test_a_model_that_breaks_its_declaration_is_not_loaded(
    module: torch.nn.Module, output: tuple[str, str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(LoadFailed, match=message):
        CudaExecutor(described([("x", "FP32", (2,))], [output]), module, FakeGpu())


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([("s", "BYTES", (1,))], MIX_OUTPUTS, "input 's' is BYTES, which no GPU holds"),
        (MIX_INPUTS, [("s", "BYTES", (1,))], "output 's' is BYTES, which no GPU holds"),
    ],
)
def test_strings_are_refused_at_load(inputs: list, outputs: list, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        CudaExecutor(described(inputs, outputs), Mix(), FakeGpu())


def test_closing_answers_what_was_submitted() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu)
    gpu.hold()
    answers = Answers()
    batches = [mix_batch(3, seed=number) for number in range(6)]
    for number, arrays in enumerate(batches):
        submit(executor, arrays, answers, number)
    closing = threading.Thread(target=executor.close)
    closing.start()
    closing.join(0.1)
    gpu.go_on()
    closing.join()
    check_mix(answers, batches)
