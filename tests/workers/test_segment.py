"""Shared memory keeps its size, whoever has its descriptor, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import gc
import os
from pathlib import Path

import pytest

from kedge.workers.segment import (
    F_ADD_SEALS,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    BadSegment,
    Segment,
    aligned,
    segment_bytes_for,
)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_both_ends_see_the_same_bytes() -> None:
    ours = Segment.create(4096)
    theirs = Segment(os.dup(ours.fd), 4096)
    theirs.buffer[7] = 42
    assert ours.buffer[7] == 42


def test_its_size_cannot_be_changed() -> None:
    segment = Segment.create(4096)
    for size in (0, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, size)


def test_memory_that_could_shrink_under_its_reader_is_refused() -> None:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    with pytest.raises(BadSegment, match="can still change"):
        Segment(fd, 4096)


def test_a_descriptor_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    with pytest.raises(BadSegment, match="memfd"):
        Segment(os.open(path, os.O_RDWR), 4096)


@pytest.mark.parametrize("claimed", [0, -1, 4095, 4097, 1 << 60])
def test_a_size_that_is_not_its_own_is_refused(claimed: int) -> None:
    segment = Segment.create(4096)
    with pytest.raises(BadSegment, match="4096"):
        Segment(os.dup(segment.fd), claimed)


SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW


def test_memory_that_cannot_be_mapped_is_refused() -> None:
    f_seal_write = 0x8
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS | f_seal_write)
    with pytest.raises(BadSegment, match="mapped"):
        Segment(fd, 4096)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_memory_that_cannot_be_made_leaves_no_descriptor() -> None:
    gc.collect()
    before = descriptors()
    for _ in range(3):
        with pytest.raises((OSError, BadSegment)):
            Segment.create(1 << 63)
        with pytest.raises((OSError, BadSegment)):
            Segment.create((1 << 34) + 1)
    assert descriptors() == before


def test_nothing_is_left_when_nobody_refers_to_it() -> None:
    gc.collect()  # what other tests left
    before = descriptors()
    for _ in range(50):
        view = Segment.create(4096).buffer[:10]
        view[0] = 1
    del view
    assert descriptors() <= before + 1


def test_sizes_grow_by_powers_of_two_and_places_are_aligned() -> None:
    assert [segment_bytes_for(n) for n in (1, 4096, 4097)] == [4096, 4096, 8192]
    assert [aligned(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]
