"""A GPU that is not there is refused with what was found and what to do."""

from __future__ import annotations

import pytest

from kedge.core.errors import LoadFailed
from kedge.executors.cuda.presence import Found, check_present, device_index

H100 = "NVIDIA H100 80GB HBM3"
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version."
)
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"


@pytest.mark.parametrize(
    ("device", "found", "message"),
    [
        (
            "cuda:0",
            Found("2.13.0+cpu", "", (), ""),
            "device 'cuda:0' cannot be used: torch 2.13.0+cpu is a build for the CPU alone; "
            "install one for CUDA",
        ),
        (
            "cuda:0",
            Found("2.11.0+cu130", "13.0", (), TOO_OLD),
            "the NVIDIA driver is too old for torch 2.11.0+cu130 for CUDA 13.0; update it",
        ),
        (
            "cuda:0",
            Found("2.11.0+cu130", "13.0", (), NO_DRIVER),
            "no NVIDIA driver was found by torch 2.11.0+cu130 for CUDA 13.0; install it",
        ),
        (
            "cuda:0",
            Found("2.11.0+cu130", "13.0", (), "CUDA unknown error\n - this may be due to"),
            "could not start CUDA: CUDA unknown error - this may be due to",
        ),
        ("cuda:0", Found("2.11.0+cu130", "13.0", (), ""), "CUDA 13.0 sees no GPU; does nvidia-smi"),
        (
            "cuda:1",
            Found("2.11.0+cu130", "13.0", (H100,), ""),
            f"device 'cuda:1' cannot be used: this machine has cuda:0 {H100}",
        ),
        (
            "cuda:2",
            Found("2.11.0+cu130", "13.0", (H100, "NVIDIA L4"), ""),
            f"this machine has cuda:0 {H100}, cuda:1 NVIDIA L4",
        ),
    ],
)
def test_the_refusal_names_the_device_what_was_found_and_what_to_do(
    device: str, found: Found, message: str
) -> None:
    with pytest.raises(LoadFailed) as refused:
        check_present(device, found)
    assert message in str(refused.value)
    assert device in str(refused.value)


def test_what_is_there_is_found() -> None:
    found = Found("2.13.0+cu130", "13.0", (H100, H100), "")
    assert check_present("cuda:0", found) == 0
    assert check_present("cuda:1", found) == 1
    assert check_present("cuda", found) == 0


@pytest.mark.parametrize("device", ["cuda:", "cuda:-1", "cuda:x", "cuda:²", "gpu:0", "cpu:0", ""])
def test_what_is_no_name_of_a_gpu_is_refused(device: str) -> None:
    with pytest.raises(LoadFailed, match="expected 'cuda:N'"):
        device_index(device)
