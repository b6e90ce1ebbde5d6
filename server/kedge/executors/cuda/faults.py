"""What an exception of the device means: memory that was not there, or a device that is gone."""

from __future__ import annotations

import torch

from kedge.core.errors import ModelFailed, ServeError
from kedge.core.values import ModelRef
from kedge.executors.cuda.device import Device
from kedge.executors.tensors import last_line

# Libraries under torch ask CUDA for memory themselves; theirs is another class, or none.
OUT_OF_MEMORY_WORDS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class DeviceLost(RuntimeError):
    """The GPU, or this process's context on it, can run nothing any more.

    Not a ServeError: only a new process helps, so the worker must end.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device is well, and a smaller batch may pass."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in OUT_OF_MEMORY_WORDS
    )


def wait_until_idle(device: Device) -> None:
    """Returns when the device has left all memory. Raises DeviceLost if it runs nothing any more:
    CUDA repeats such an error at every later call.
    """
    try:
        device.synchronize()
    except Exception as sticky:
        raise DeviceLost(f"{device.name}: {last_line(sticky)}") from sticky


def told(ref: ModelRef, device: str, error: Exception) -> ServeError:
    """What the callers of a batch hear that raised while it was launched, on a healthy device."""
    if is_out_of_memory(error):
        return ModelFailed(
            f"model '{ref}': {device} is out of memory: {last_line(error)}; a smaller "
            "max_batch_size needs less"
        )
    if isinstance(error, ServeError):
        return error
    return ModelFailed(f"model '{ref}' failed: {last_line(error)}")
