"""Buffers grow by doubling, and never hold two of themselves."""

from __future__ import annotations

import pytest
import torch

from kedge.executors.cuda.buffers import BUFFER_BYTES_MIN, PREFIXES_MAX, GrowingBuffers, Prefixes


def test_a_buffer_is_as_large_as_needed_then_doubles() -> None:
    made: list[int] = []

    def allocate(nbytes: int) -> torch.Tensor:
        made.append(nbytes)
        return torch.zeros(nbytes, dtype=torch.uint8)

    buffers = GrowingBuffers(allocate, 1)
    for nbytes in (0, 512, 1000, 1024, 1025, 5000, 1):
        assert buffers.first(0, nbytes).numel() == nbytes
    assert made == [BUFFER_BYTES_MIN, 1024, 2048, 5000]


def test_the_old_buffer_goes_before_the_new_one_is_made() -> None:
    alive: list[int] = []

    class Counted:
        def __init__(self, nbytes: int) -> None:
            alive.append(nbytes)
            self.nbytes = nbytes

        def numel(self) -> int:
            return self.nbytes

        def __getitem__(self, which: slice) -> Counted:
            return self

        def __del__(self) -> None:
            alive.remove(self.nbytes)

    seen: list[list[int]] = []

    def allocate(nbytes: int) -> torch.Tensor:
        seen.append(list(alive))
        return Counted(nbytes)  # type: ignore[return-value]

    buffers = GrowingBuffers(allocate, 1)
    buffers.first(0, 600)
    buffers.first(0, 6000)
    assert seen == [[], []]
    buffers.release()
    assert alive == []


def test_a_buffer_that_could_not_be_made_is_tried_again() -> None:
    failures = [torch.OutOfMemoryError("no")]

    def allocate(nbytes: int) -> torch.Tensor:
        if failures:
            raise failures.pop()
        return torch.zeros(nbytes, dtype=torch.uint8)

    buffers = GrowingBuffers(allocate, 1)
    with pytest.raises(torch.OutOfMemoryError):
        buffers.first(0, 10)
    assert buffers.first(0, 10).numel() == 10


def test_slices_are_remembered_up_to_a_bound_and_lie_on_the_same_memory() -> None:
    prefixes = Prefixes(torch.arange(1000, dtype=torch.int32).to(torch.uint8))
    assert prefixes.first(3) is prefixes.first(3)
    for nbytes in range(PREFIXES_MAX + 10):
        assert prefixes.first(nbytes).data_ptr() in (0, prefixes.whole.data_ptr())
    assert len(prefixes._by_nbytes) <= PREFIXES_MAX
