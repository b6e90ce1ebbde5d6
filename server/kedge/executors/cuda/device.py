"""All that the executor wants of a GPU, as Protocols that torch's own classes fulfil.

The seam is narrow on purpose: what lies behind it (`torch_device.py`) can only be tested on a GPU.
Work is given to the current stream of the calling thread and runs later; nothing but `synchronize`
waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

# Inputs on the device to checked, contiguous outputs on the device, in the schema's order.
Program = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


class Stream(Protocol):
    """A queue of device work, run in order; streams run beside each other. torch.cuda.Stream."""

    def wait_event(self, event: Event) -> None:
        """What is given to this stream from now on runs after `event`."""
        ...


class Event(Protocol):
    """A mark in a stream, which may be used again once it was reached. torch.cuda.Event."""

    def record(self, stream: Stream) -> None: ...
    def synchronize(self) -> None:
        """Sleep, without the GIL, until the mark is reached. Raises RuntimeError if work of the
        device failed: then nothing on it can be trusted any more.
        """
        ...

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds of device time to a later mark. Both reached, both made for timing."""
        ...


class Graph(Protocol):
    """A recorded run of a program, on the memory it was recorded with. torch.cuda.CUDAGraph."""

    def replay(self) -> None:
        """Run it once more, on the current stream."""
        ...


class Device(Protocol):
    """One GPU as one executor uses it."""

    @property
    def name(self) -> str:
        """As in an endpoint file, `cuda:0`."""
        ...

    def enter_thread(self) -> None:
        """Makes the calling thread ready: this device, no gradients. Cheap when repeated."""
        ...

    def limit_memory(self, nbytes: int) -> None:
        """Let this process have at most `nbytes` of device memory; beyond it allocations fail."""
        ...

    def stream(self) -> Stream: ...
    def event(self, *, timed: bool) -> Event:
        """timed: for `elapsed_time`, else for `synchronize`."""
        ...

    def use(self, stream: Stream) -> None:
        """Give the calling thread's work to `stream` from now on."""
        ...

    def pinned(self, nbytes: int) -> torch.Tensor:
        """Host memory, uint8[nbytes], which the device reads and writes by itself."""
        ...

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Device memory, uint8[nbytes], zeros. Belongs to the current stream: the first work on it
        is given there, or after `synchronize`. Raises torch.OutOfMemoryError.
        """
        ...

    def copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        """Copy equally many bytes on the current stream; host memory must be pinned."""
        ...

    def zero(self, tensor: torch.Tensor) -> None:
        """Fill with zeros on the current stream."""
        ...

    def run(self, program: Program, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run a program on the current stream; its outputs' shapes are known at once, their values
        when the stream gets there. Raises what the program raises.
        """
        ...

    def capture(
        self, program: Program, inputs: Sequence[torch.Tensor], stream: Stream
    ) -> tuple[Graph, list[torch.Tensor]]:
        """Record a program on `stream`, which ran it before; the outputs are written by each
        replay. All graphs of a device share memory, so they must not run beside each other. Raises
        RuntimeError when the program cannot be recorded; it can still be `run`.
        """
        ...

    def synchronize(self) -> None:
        """Wait for everything. Raises RuntimeError if work of the device failed."""
        ...

    def release_memory(self) -> None:
        """Give memory that is kept for later allocations back to the device."""
        ...
