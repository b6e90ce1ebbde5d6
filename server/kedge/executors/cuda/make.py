"""A warm executor on the GPU that an endpoint names: is it there, what may it take, what runs."""

from __future__ import annotations

from collections.abc import Callable

from kedge.core.errors import LoadFailed
from kedge.core.values import VersionManifest
from kedge.executors.cuda.executor import CudaExecutor
from kedge.executors.cuda.faults import is_out_of_memory
from kedge.executors.cuda.presence import check_present
from kedge.executors.cuda.program import check_numeric
from kedge.executors.cuda.torch_device import CudaDevice, find_devices
from kedge.executors.tensors import Forward, last_line


def make_cuda_executor(
    manifest: VersionManifest, device: str, load: Callable[[VersionManifest, str], Forward]
) -> CudaExecutor:
    """load(manifest, device): the model on `device`; called when the device is there and limited.

    Raises LoadFailed with the reason.
    """
    check_numeric(manifest)
    index = check_present(device, find_devices())
    try:
        gpu = CudaDevice(index, deterministic=manifest.execution.deterministic)
        gpu.enter_thread()
        if manifest.execution.device_memory_bytes_max:
            gpu.limit_memory(manifest.execution.device_memory_bytes_max)
        return CudaExecutor(manifest, load(manifest, gpu.name), gpu)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise LoadFailed(
            f"model '{manifest.ref}' on {device}: out of memory at load: {last_line(error)}"
        ) from error
