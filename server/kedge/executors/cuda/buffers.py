"""Memory of a batch in flight: pinned on the host, and on the device, in raw bytes.

A batch uses the first bytes of each buffer, so one buffer serves every number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from kedge.core.ports import Buffer
from kedge.executors.cuda.device import Device

# Slices that one buffer remembers. Making one takes 1 us, of which a batch would need about ten;
# 256 are as many sizes as a server with `max_batch_size` 256 ever sees.
PREFIXES_MAX = 256
# No buffer is smaller: the caching allocator's smallest block.
BUFFER_BYTES_MIN = 512


class Prefixes:
    """The first bytes of a flat uint8 tensor, as tensors."""

    def __init__(self, whole: torch.Tensor) -> None:
        self.whole = whole
        self._by_nbytes: dict[int, torch.Tensor] = {}

    def first(self, nbytes: int) -> torch.Tensor:
        """The first `nbytes` bytes, on the same memory."""
        found = self._by_nbytes.get(nbytes)
        if found is None:
            if len(self._by_nbytes) >= PREFIXES_MAX:
                self._by_nbytes.clear()
            found = self._by_nbytes[nbytes] = self.whole[:nbytes]
        return found


class GrowingBuffers:
    """One buffer per tensor of a batch, made by `allocate(nbytes)`: as large as the first batch
    needs, and replaced by one at least twice as large when a batch needs more. Nobody may use a
    buffer that is being replaced.
    """

    def __init__(self, allocate: Callable[[int], torch.Tensor], count: int) -> None:
        self._allocate = allocate
        self._buffers: list[Prefixes | None] = [None] * count

    def first(self, index: int, nbytes: int) -> torch.Tensor:
        """The first `nbytes` bytes of buffer `index`."""
        buffer = self._buffers[index]
        if buffer is None or buffer.whole.numel() < nbytes:
            size = max(BUFFER_BYTES_MIN, nbytes, 2 * buffer.whole.numel() if buffer else 0)
            # The old one goes first: on a full device only one of the two has room.
            self._buffers[index] = buffer = None
            buffer = self._buffers[index] = Prefixes(self._allocate(size))
        return buffer.first(nbytes)

    def release(self) -> None:
        """Forget all buffers; the next batch makes its own."""
        self._buffers = [None] * len(self._buffers)


class Slot:
    """Everything that one batch in flight has to itself, from its arrival to its answer.

    host_in, host_out: pinned. device_in, device_out: what the copies from and to the host use, so
    that they never touch the memory on which a graph works. Events: `arrived` inputs are on the
    device; `started`, `computed` around the model; `done` the outputs are on the host.
    """

    def __init__(self, device: Device, inputs: int, outputs: int) -> None:
        self.host_in = GrowingBuffers(device.pinned, inputs)
        self.host_out = GrowingBuffers(device.pinned, outputs)
        self.device_in = GrowingBuffers(device.buffer, inputs)
        self.device_out = GrowingBuffers(device.buffer, outputs)
        self.arrived = device.event(timed=False)
        self.started = device.event(timed=True)
        self.computed = device.event(timed=True)
        self.done = device.event(timed=False)

    def lend(self, nbytes: Sequence[int]) -> list[Buffer]:
        """The pinned input buffers, as bytes to write to."""
        return [host_view(self.host_in.first(i, size)) for i, size in enumerate(nbytes)]

    def write(self, sizes: Sequence[int], inputs: Sequence[Buffer]) -> None:
        """Copy a batch's bytes into the pinned buffers; without the GIL if they are large."""
        for index, (size, raw) in enumerate(zip(sizes, inputs, strict=True)):
            np.copyto(host_view(self.host_in.first(index, size)), raw)

    def release_device_memory(self) -> None:
        """Forget the buffers on the device."""
        self.device_in.release()
        self.device_out.release()


def host_view(tensor: torch.Tensor) -> Buffer:
    """A flat uint8 tensor of the host as an array on the same memory."""
    view: Buffer = tensor.numpy()
    return view


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """The raw bytes of a contiguous tensor, uint8[nbytes], on the same memory."""
    return tensor.reshape(-1).view(torch.uint8)
