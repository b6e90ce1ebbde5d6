"""Makes TorchScript models that Kedge serves. Usage: torchscript.py FOLDER MODEL...

bench: a traced 32 -> 64 -> 64 -> 8 MLP. image, strings: the identity. large: the mean of 1,048,576
numbers, 4 MiB a row. Writes FOLDER/MODEL.pt, and for `bench` and `large` FOLDER/MODEL.expected.npy,
the answer to FOLDER/MODEL.payload.npy.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn


class Mean(nn.Module):
    """The mean of each row, [n, 1]."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.mean(dim=1, keepdim=True)


class Identity(nn.Module):
    """Its input."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


class StringIdentity(nn.Module):
    """Its input; TorchScript knows strings as lists only."""

    def forward(self, rows: list[list[str]]) -> list[list[str]]:
        return rows


def mlp() -> nn.Module:
    """The same weights in every run."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
    )


def trace_and_answer(model: nn.Module, folder: Path, name: str) -> torch.jit.ScriptModule:
    """The traced model; its answer to the payload goes to a file."""
    rows = torch.from_numpy(np.load(folder / f"{name}.payload.npy"))
    with torch.inference_mode():
        np.save(folder / f"{name}.expected.npy", model(rows).numpy())
    return torch.jit.trace(model, rows)


def main(folder: Path, names: list[str]) -> None:
    """Writes each model, and what it answers unless that is its input."""
    # TorchScript is deprecated in torch 2.13; it is what these servers are measured with.
    warnings.simplefilter("ignore", DeprecationWarning)
    make = {
        "bench": lambda: trace_and_answer(mlp().eval(), folder, "bench"),
        "large": lambda: trace_and_answer(Mean().eval(), folder, "large"),
        "image": lambda: torch.jit.script(Identity().eval()),
        "strings": lambda: torch.jit.script(StringIdentity().eval()),
    }
    for name in names:
        torch.jit.save(make[name](), str(folder / f"{name}.pt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
