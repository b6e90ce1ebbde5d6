"""AOTInductor packages for tests, compiled once per torch and kept in pytest's cache folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch


class Mlp(torch.nn.Module):
    """Two outputs by name, one of them not of floating point."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.layers(x)
        return {"y": y, "best": y.argmax(1)}


def package(config: pytest.Config, rows: int | tuple[int, int]) -> Path:
    """Mlp for exactly `rows` rows, or for a range of them."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    assert config.cache is not None
    folder = config.cache.mkdir(f"aotinductor-{torch.__version__}")
    path = folder / f"mlp-{rows}.pt2".replace(" ", "")
    if path.exists():
        return path
    shapes = None
    if isinstance(rows, tuple):
        shapes = ({0: torch.export.Dim("batch", min=rows[0], max=rows[1])},)
    with torch.inference_mode(False), torch.no_grad():
        example = torch.zeros(rows if isinstance(rows, int) else rows[1], 4)
        program = torch.export.export(Mlp().eval(), (example,), dynamic_shapes=shapes)
        new = torch._inductor.aoti_compile_and_package(
            program, package_path=str(folder / "new.pt2")
        )
    return Path(new).rename(path)
