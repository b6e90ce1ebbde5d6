"""Makes TorchScript models that Kedge serves. Usage: torchscript.py FOLDER MODEL...

bench: a traced 32 -> 64 -> 64 -> 8 MLP. steady: a deeper one of about 0.1 ms. image, row_8k,
strings: the identity; NAME-copy: the same with an output of its own. large: the mean of 1,048,576
numbers, 4 MiB a row. Writes FOLDER/MODEL.pt, and where the answer is not the input
FOLDER/MODEL.expected.npy, the answer to FOLDER/MODEL.payload.npy.
"""

import sys
import warnings
from itertools import pairwise
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


class Copy(nn.Module):
    """Its input, in memory of its own as any other model's answer."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.clone()


class StringIdentity(nn.Module):
    """Its input; TorchScript knows strings as lists only."""

    def forward(self, rows: list[list[str]]) -> list[list[str]]:
        return rows


def mlp(*sizes: int) -> nn.Module:
    """Linear layers with ReLU between them; the same weights in every run."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for given, answered in pairwise(sizes):
        layers += [nn.Linear(given, answered), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


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
        "bench": lambda: trace_and_answer(mlp(32, 64, 64, 8), folder, "bench"),
        "steady": lambda: trace_and_answer(mlp(32, *[512] * 4, 8), folder, "steady"),
        "large": lambda: trace_and_answer(Mean().eval(), folder, "large"),
        **dict.fromkeys(("image", "row_8k"), lambda: torch.jit.script(Identity().eval())),
        "strings": lambda: torch.jit.script(StringIdentity().eval()),
    }
    for name in names:
        model = torch.jit.script(Copy()) if name.endswith("-copy") else make[name]()
        torch.jit.save(model, str(folder / f"{name}.pt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
