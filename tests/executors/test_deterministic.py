"""Bit-equal answers in any batch, with models whose kernels change with the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kedge.core.ports import BatchResult
from kedge.core.settings import ExecutionLimits
from kedge.executors.deterministic import bit_equal, is_place_free
from kedge.executors.make import make_executor
from support.torchscript import manifest, save

ROWS, FEATURES = 61, 517


class Wide(torch.nn.Module):
    """Sums of 517 products and an exponential: both differ in the last bit between kernels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(FEATURES, 33)
        self.second = torch.nn.Linear(33, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.second(torch.tanh(self.first(x))))


def splits(rows: int) -> Iterator[list[int]]:
    """Ways to cut `rows` rows into batches."""
    yield [rows]
    yield [1] * rows
    for seed in range(20):
        random = np.random.default_rng(seed)
        cuts = sorted(random.choice(np.arange(1, rows), size=seed + 1, replace=False))
        yield np.diff([0, *cuts, rows]).tolist()


def answers(forward: Callable[..., object], x: torch.Tensor, split: list[int]) -> bytes:
    parts = [forward(part.clone()) for part in x.split(split)]
    return b"".join(part.numpy().tobytes() for part in parts)  # type: ignore[attr-defined]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_without_it_a_row_differs_from_batch_to_batch(x: torch.Tensor) -> None:
    module = Wide().eval()
    assert len({answers(module, x, split) for split in splits(ROWS)}) > 1


@torch.inference_mode()
@pytest.mark.parametrize("rows_wanted", [1, 7, 61, 64])
def test_with_it_every_split_has_the_same_bits(x: torch.Tensor, rows_wanted: int) -> None:
    forward = bit_equal(Wide().eval(), rows_wanted)
    assert len({answers(forward, x, split) for split in splits(ROWS)}) == 1


@torch.inference_mode()
def test_the_place_in_the_batch_and_the_neighbours_do_not_matter(x: torch.Tensor) -> None:
    forward = bit_equal(Wide().eval(), 61)
    whole = forward(x)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(2))
    assert torch.equal(forward(x[order]), whole[order])  # type: ignore[index,arg-type]


@torch.inference_mode()
def test_rows_that_change_each_other_run_alone() -> None:
    def centred(x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)

    assert not is_place_free(centred, [torch.zeros(1, 3)], 8)
    forward = bit_equal(centred, 8)
    x = torch.randn(5, 3)
    assert len({answers(forward, x, split) for split in ([5], [2, 3], [1, 1, 3])}) == 1


def test_the_executor_keeps_it_over_buffers_at_any_address(tmp_path: Path) -> None:
    made = manifest(
        save(Wide(), tmp_path / "m.pt"), [("x", "FP32", (FEATURES,))], [("y", "FP32", (3,))], 61
    )
    made = replace(made, execution=ExecutionLimits(deterministic=True))
    executor = make_executor(made, allow_model_code=False)
    rows = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    found = set()
    for split in splits(ROWS):
        data, start = b"", 0
        for count in split:
            raw = rows[start : start + count].tobytes()
            offset = 4 * (start % 16)
            memory = np.zeros(len(raw) + 64, np.uint8)
            buffer = memory[offset : offset + len(raw)]
            buffer[:] = np.frombuffer(raw, np.uint8)
            results: list[BatchResult] = []
            executor.submit(
                count, [(FEATURES,)], [buffer], lambda r, f, into=results: into.append(r)
            )
            data += results[0].outputs[0].data.tobytes()
            start += count
        found.add(data)
    assert len(found) == 1


def test_buckets_without_it_are_the_sizes_that_run(tmp_path: Path) -> None:
    class Rows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, x.shape[0])

    made = manifest(save(Rows(), tmp_path / "m.pt"), [("x", "FP32", ())], [("y", "FP32", ())])
    made = replace(made, execution=ExecutionLimits(batch_buckets=(4, 1)))
    executor = make_executor(made, allow_model_code=False)
    for rows, size in ((1, 1), (2, 4), (4, 4), (5, 4)):
        results: list[BatchResult] = []
        raw = np.zeros(rows * 4, np.uint8)
        executor.submit(rows, [()], [raw], lambda result, final, to=results: to.append(result))
        assert results[0].outputs[0].data.view(np.float32)[0] == size
