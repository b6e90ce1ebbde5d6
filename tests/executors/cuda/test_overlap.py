"""Copies and computing overlap: no stream waits for more than it needs, and nothing waits in
`submit`.
"""

from __future__ import annotations

import pytest

from support.fake_gpu import FakeGpu
from support.gpu_models import Answers, mix_batch, mix_executor, submit


def test_the_next_batch_is_copied_in_before_the_first_one_computes() -> None:
    gpu = FakeGpu(eager=("copy_in",))
    executor = mix_executor(gpu)
    gpu.hold()
    gpu.log.clear()
    answers = Answers()
    for number in range(2):
        submit(executor, mix_batch(4, number), answers, number)
    assert gpu.log == ["copy_in:copy"] * 4
    gpu.go_on()
    answers.wait(2)


def test_the_next_batch_computes_before_the_first_one_is_copied_out() -> None:
    gpu = FakeGpu(eager=("copy_in", "compute"))
    executor = mix_executor(gpu)
    gpu.hold()
    gpu.log.clear()
    answers = Answers()
    for number in range(2):
        submit(executor, mix_batch(4, number), answers, number)
    assert gpu.log.count("compute:replay") == 2
    assert "copy_out:copy" not in gpu.log
    gpu.go_on()
    answers.wait(2)


def test_an_answer_needs_nothing_of_the_batch_behind_it() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu)
    gpu.hold()
    gpu.log.clear()
    answers = Answers()
    seen: list[list[str]] = []
    batch = mix_batch(4, 0)
    raw = [array.view("u1").reshape(-1) for array in batch]
    executor.submit(4, [(3,), (4,)], raw, lambda result, final: seen.append(list(gpu.log)))
    submit(executor, mix_batch(4, 1), answers, 1)
    gpu.go_on()
    answers.wait(1)
    assert seen[0].count("compute:replay") == 1
    # The second batch's inputs were not needed for the first answer.
    assert seen[0].count("copy_in:copy") == 2


@pytest.mark.parametrize(
    ("rows", "work"),
    [
        (4, ["copy_in:copy"] * 2 + ["compute:copy"] * 2 + ["compute:replay"]),
        (3, ["copy_in:copy"] * 2 + ["compute:copy", "compute:zero"] * 2 + ["compute:replay"]),
    ],
)
def test_a_batch_is_one_replay_and_one_copy_per_tensor_and_way(rows: int, work: list[str]) -> None:
    gpu = FakeGpu(eager=("copy_in", "compute", "copy_out"))
    executor = mix_executor(gpu)
    gpu.log.clear()
    answers = Answers()
    submit(executor, mix_batch(rows, 0), answers)
    answers.wait(1)
    assert gpu.log == [*work, *["compute:copy"] * 2, *["copy_out:copy"] * 2]


def test_after_the_warm_up_no_memory_is_allocated() -> None:
    gpu = FakeGpu()
    executor = mix_executor(gpu)
    allocated = len(gpu.buffer_bytes)
    answers = Answers()
    for number in range(16):
        submit(executor, mix_batch(1 + number % 8, number), answers, number)
    answers.wait(16)
    assert len(gpu.buffer_bytes) == allocated
