"""TorchScript archives, the format of `torch.jit.save`: loaded, put on a device, frozen."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch


def load_torchscript(path: Path, device: str = "cpu") -> torch.jit.ScriptModule:
    """The frozen module in evaluation mode. Raises what torch raises.

    `torch.jit.load` reads tensors and TorchScript code; it has no way to a Python function.
    """
    with warnings.catch_warnings():
        # torch.jit is deprecated as a way to make models; loading what exists is our purpose.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
        frozen: torch.jit.ScriptModule = torch.jit.freeze(module)
        return frozen
