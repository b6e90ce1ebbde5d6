"""torch.export files made small, and made wrong: entries replaced, added, or taken out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

GRAPH = "models/model.json"
WEIGHTS_CONFIG = "data/weights/model_weights_config.json"
CONSTANTS_CONFIG = "data/constants/model_constants_config.json"


class Affine(torch.nn.Module):
    """One linear layer and a reshape whose size depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).reshape(x.shape[0] * 2).reshape(x.shape[0], 2)


def export(
    module: torch.nn.Module, path: Path, *inputs: torch.Tensor, rows: tuple[int, int] | None = None
) -> Path:
    """Write `module` as torch.export saves it; rows: range of a dynamic first dimension."""
    shapes = None
    if rows is not None:
        batch = torch.export.Dim("batch", min=rows[0], max=rows[1])
        shapes = tuple({0: batch} for _ in inputs)
    with torch.no_grad():
        program = torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def entries(path: Path) -> dict[str, bytes]:
    """The entries of a torch archive by their name below its root folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, contents: Mapping[str, bytes], root: str = "model") -> Path:
    """An archive as torch writes it: everything stored, below one folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(f"{root}/{name}", content)
    return path


def changed(path: Path, entry: str, change: Callable[[Any], Any]) -> Path:
    """`path` with one JSON entry changed in place by `change`."""
    contents = entries(path)
    document = json.loads(contents[entry])
    change(document)
    return write(path, {**contents, entry: json.dumps(document).encode()})
