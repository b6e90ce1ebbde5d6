"""Endpoint files and Python models for real servers: one input x and one output y of one number."""

from __future__ import annotations

from pathlib import Path

import torch

from support.torchscript import save

# Does what its input says: a tool for breaking things on purpose.
MISCHIEF = """
import os, signal, time
from pathlib import Path
import torch

CRASH, HANG, RAISE, WRONG_SHAPE, EXIT, SLOW = 1000, 2000, 3000, 4000, 5000, 6000


class Mischief(torch.nn.Module):
    def forward(self, x):
        worst = int(x.max())
        if worst == CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        if worst == HANG:
            while True:
                pass
        if worst == RAISE:
            raise ValueError("told to raise")
        if worst == WRONG_SHAPE:
            return torch.zeros(len(x), 7)
        if worst == EXIT:
            os._exit(3)
        if worst == SLOW:
            time.sleep(0.5)
        return x * 2


def load(path: Path) -> torch.nn.Module:
    {at_load}
    return Mischief()
"""
CRASH, HANG, RAISE, WRONG_SHAPE, EXIT, SLOW = 1000, 2000, 3000, 4000, 5000, 6000


def write_mischief(
    folder: Path, name: str = "mischief", at_load: str = "pass", serving: str = ""
) -> Path:
    """An endpoint file whose model breaks itself on demand; at_load: a statement of its `load`."""
    code = folder / f"{name}_model" / "model.py"
    code.parent.mkdir(parents=True)
    code.write_text(MISCHIEF.replace("{at_load}", at_load))
    return write_endpoint(folder, name, f"{name}_model/model.py", serving)


def write_torchscript(folder: Path, name: str, module: torch.nn.Module, serving: str = "") -> Path:
    """An endpoint file and its TorchScript model."""
    save(module, folder / f"{name}.pt")
    return write_endpoint(folder, name, f"{name}.pt", serving)


def write_endpoint(folder: Path, name: str, model: str, serving: str = "") -> Path:
    """NAME.yaml of a model of one number per row; serving: keys of that section."""
    path = folder / f"{name}.yaml"
    path.write_text(
        "apiVersion: kedge/v1\nkind: Endpoint\n"
        f"name: {name}\n"
        "inputs: [{name: x, datatype: FP32, shape: [-1, 1]}]\n"
        "outputs: [{name: y, datatype: FP32, shape: [-1, 1]}]\n"
        f'versions: {{"1": {{model: {model}}}}}\n'
        f"serving: {{{serving}}}\n"
    )
    return path
