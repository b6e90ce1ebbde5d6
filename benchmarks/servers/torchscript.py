"""Makes a model that Kedge serves. Usage: torchscript.py bench|large FOLDER

bench: a traced 32 -> 64 -> 64 -> 8 MLP. large: the mean of 1,048,576 numbers, 4 MiB a row. Makes
the Triton model repository FOLDER/repository, and FOLDER/expected.npy, the model's answer to
FOLDER/payload.npy.
"""

import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

TEMPLATES = Path(__file__).resolve().parent / "torchscript_repository"


class Mean(nn.Module):
    """The mean of each row, [n, 1]."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.mean(dim=1, keepdim=True)


def mlp() -> nn.Module:
    """The same weights in every run."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
    )


def main(name: str, folder: Path) -> None:
    """Writes the repository with the one model, and what it answers."""
    model = {"bench": mlp, "large": Mean}[name]().eval()
    rows = torch.from_numpy(np.load(folder / "payload.npy"))
    with torch.inference_mode():
        np.save(folder / "expected.npy", model(rows).numpy())
    shutil.copytree(TEMPLATES / name, folder / "repository" / name)
    version = folder / "repository" / name / "1"
    version.mkdir()
    # TorchScript is deprecated in torch 2.13; it is what the repository format holds.
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.jit.save(torch.jit.trace(model, rows), str(version / "model.pt"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
