"""Is the GPU that an endpoint asks for there? If not: what was found, and what to do. Pure."""

from __future__ import annotations

from typing import NamedTuple

from kedge.core.errors import LoadFailed


class Found(NamedTuple):
    """What torch sees. built_for: the CUDA version that torch was built with, "" for a CPU build.
    names: one per GPU. error: why CUDA could not be made ready, "" if it could.
    """

    torch_version: str
    built_for: str
    names: tuple[str, ...]
    error: str


def device_index(device: str) -> int:
    """The N of `cuda:N`; `cuda` is `cuda:0`. Raises LoadFailed for anything else."""
    kind, colon, number = device.partition(":")
    if kind == "cuda" and not colon:
        return 0
    if kind != "cuda" or not (number.isascii() and number.isdigit()):
        raise LoadFailed(f"device '{device}': expected 'cuda:N' with N from 0")
    return int(number)


def check_present(device: str, found: Found) -> int:
    """The index of `device`. Raises LoadFailed when it cannot be used here."""
    index = device_index(device)
    reason = _why_absent(index, found)
    if reason:
        raise LoadFailed(f"device '{device}' cannot be used: {reason}")
    return index


def _why_absent(index: int, found: Found) -> str:
    if not found.built_for:
        return (
            f"torch {found.torch_version} is a build for the CPU alone; install one for CUDA "
            "(pytorch.org shows the index for your driver), or use device 'cpu'"
        )
    build = f"torch {found.torch_version} for CUDA {found.built_for}"
    if found.error:
        return _why_cuda_failed(build, " ".join(found.error.split()))
    if not found.names:
        return f"{build} sees no GPU; does nvidia-smi list one, and what is CUDA_VISIBLE_DEVICES?"
    if index >= len(found.names):
        listed = ", ".join(f"cuda:{number} {name}" for number, name in enumerate(found.names))
        return f"this machine has {listed}"
    return ""


def _why_cuda_failed(build: str, error: str) -> str:
    if "too old" in error:
        return f"the NVIDIA driver is too old for {build}; update it, or install an older torch"
    if "no NVIDIA driver" in error:
        return f"no NVIDIA driver was found by {build}; install it and see that nvidia-smi runs"
    return f"{build} could not start CUDA: {error}"
