"""Shared memory without a name: it is gone with the last process that has it open, however it ends.

Sealed against shrinking when it is made: a process that cut off memory that others read would end
them with SIGBUS.
"""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

from kedge.core.ports import Buffer

# Linux's fcntl.h; Python 3.11 does not name them.
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 0x1, 0x2, 0x4
SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
# Tensors begin at multiples of it: a cache line, and what vector instructions want.
ALIGNMENT = 64
# Twelve tensors of 224 x 224 images at batch 1,024 have 7 GB; a larger size is a mistake.
SEGMENT_BYTES_MAX = 1 << 34


class BadSegment(Exception):
    """The descriptor is no memory of the promised size that stays what it is."""


class Segment:
    """`buffer`: uint8[nbytes], shared with whoever got `fd`. Freed when nothing refers to it."""

    def __init__(self, fd: int, nbytes: int) -> None:
        """Takes `fd` over. Raises BadSegment."""
        self.fd = fd
        if not 0 < nbytes <= SEGMENT_BYTES_MAX or os.fstat(fd).st_size != nbytes:
            raise BadSegment(f"expected {nbytes} bytes, got {os.fstat(fd).st_size}")
        try:
            seals = fcntl.fcntl(fd, F_GET_SEALS)
        except OSError as error:
            raise BadSegment(f"not a memfd: {error.strerror}") from None
        if seals & SEALS != SEALS:
            raise BadSegment("its size can still change")
        try:
            memory = mmap.mmap(fd, nbytes)
        except OSError as error:  # sealed against writing, or there is no room
            raise BadSegment(f"it cannot be mapped: {error.strerror}") from None
        self.buffer: Buffer = np.frombuffer(memory, dtype=np.uint8)
        self.address = int(self.buffer.__array_interface__["data"][0])

    @classmethod
    def create(cls, nbytes: int) -> Segment:
        """New memory, zeroed, of which no page is used before it is written.

        Raises BadSegment for more than SEGMENT_BYTES_MAX, OSError if there is none.
        """
        if nbytes > SEGMENT_BYTES_MAX:
            raise BadSegment(f"{nbytes} bytes are more than {SEGMENT_BYTES_MAX}")
        fd = os.memfd_create("kedge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, nbytes)
            fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
        except OSError:
            os.close(fd)
            raise
        return cls(fd, nbytes)

    @property
    def nbytes(self) -> int:
        return int(self.buffer.size)

    def __del__(self) -> None:
        os.close(self.fd)


def aligned(nbytes: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def segment_bytes_for(nbytes: int) -> int:
    """The size to allocate for `nbytes`: the next power of two, at least a page.

    Batches grow by and by; each size in between would be a new segment and new page faults.
    """
    return max(mmap.PAGESIZE, 1 << (nbytes - 1).bit_length())
