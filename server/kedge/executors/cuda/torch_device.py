"""The real GPU: nothing but calls into torch.cuda, the same on torch 2.11 to 2.13.

No decision is taken here, because a machine without a GPU cannot test it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import torch

from kedge.executors.cuda.device import Event, Graph, Program, Stream
from kedge.executors.cuda.presence import Found
from kedge.executors.local import enter_inference_mode

_of_thread = threading.local()


def find_devices() -> Found:
    """What torch sees of GPUs here; makes CUDA ready as far as that goes, and never raises."""
    built_for = torch.version.cuda or ""
    if not built_for:
        return Found(torch.__version__, "", (), "")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except Exception as error:
        return Found(torch.__version__, built_for, (), str(error))
    return Found(torch.__version__, built_for, tuple(names), "")


class CudaDevice:
    """Implements `Device`. deterministic: only kernels that answer the same every time."""

    def __init__(self, index: int, *, deterministic: bool) -> None:
        self._torch_device = torch.device("cuda", index)
        self._pool = torch.cuda.graph_pool_handle()
        # Shapes are fixed per bucket, so that trying convolution algorithms in the warm-up pays.
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.deterministic = deterministic

    @property
    def name(self) -> str:
        return str(self._torch_device)

    def enter_thread(self) -> None:
        # Once per thread: nothing else in this process chooses devices.
        if getattr(_of_thread, "device", None) is not self:
            _of_thread.device = self
            torch.cuda.set_device(self._torch_device)
            enter_inference_mode()

    def limit_memory(self, nbytes: int) -> None:
        total_bytes = torch.cuda.get_device_properties(self._torch_device).total_memory
        share = min(1.0, nbytes / total_bytes)
        torch.cuda.set_per_process_memory_fraction(share, self._torch_device)

    def stream(self) -> Stream:
        return cast(Stream, torch.cuda.Stream(self._torch_device))  # type: ignore[no-untyped-call]

    def event(self, *, timed: bool) -> Event:
        # Blocking: the waiting thread sleeps. Otherwise CUDA spins, a whole core per GPU.
        event = torch.cuda.Event(enable_timing=timed, blocking=not timed)  # type: ignore[no-untyped-call]
        return cast(Event, event)

    def use(self, stream: Stream) -> None:
        torch.cuda.set_stream(stream)  # type: ignore[arg-type]

    def pinned(self, nbytes: int) -> torch.Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8, pin_memory=True)

    def buffer(self, nbytes: int) -> torch.Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8, device=self._torch_device)

    def copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        to.copy_(source, non_blocking=True)

    def zero(self, tensor: torch.Tensor) -> None:
        tensor.zero_()

    def run(self, program: Program, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return program(inputs)

    def capture(
        self, program: Program, inputs: Sequence[torch.Tensor], stream: Stream
    ) -> tuple[Graph, list[torch.Tensor]]:
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: other threads of the process may allocate meanwhile.
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=stream,  # type: ignore[arg-type]
                capture_error_mode="thread_local",
            ):
                outputs = program(inputs)
        except Exception:
            self._end_failed_capture()
            raise
        return graph, outputs

    def _end_failed_capture(self) -> None:
        """torch 2.11 and 2.12 leave the allocator recording when a capture fails (pytorch#180395);
        later ones have ended it and say so.
        """
        with suppress(RuntimeError, AttributeError):
            torch._C._cuda_endAllocateToPool(self._torch_device.index, self._pool)
        # What the pool holds stays with it; graphs captured later must not share it.
        self._pool = torch.cuda.graph_pool_handle()

    def synchronize(self) -> None:
        torch.cuda.synchronize(self._torch_device)

    def release_memory(self) -> None:
        torch.cuda.empty_cache()
