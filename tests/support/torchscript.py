"""Small TorchScript models on disk, and the manifests that describe them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from kedge.core.datatypes import DATATYPES
from kedge.core.settings import BatchLimits, QueueLimits
from kedge.core.values import ModelRef, ModelSchema, TensorSpec, VersionManifest

Declared = tuple[str, str, tuple[int, ...]]


def save(module: torch.nn.Module, path: Path) -> Path:
    """Script `module` and write it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module.eval()).save(str(path))
    return path


def manifest(
    path: Path,
    inputs: Sequence[Declared],
    outputs: Sequence[Declared],
    rows_max: int = 8,
    batched: bool = True,
) -> VersionManifest:
    """inputs, outputs: (name, datatype, per-row dims)."""

    def specs(declared: Sequence[Declared]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, DATATYPES[dtype], dims) for name, dtype, dims in declared)

    schema = ModelSchema(specs(inputs), specs(outputs), batched, rows_max if batched else 1)
    limits = BatchLimits(rows_max=schema.rows_max)
    return VersionManifest(
        ModelRef("m", 1), "pytorch_libtorch", path, schema, limits, QueueLimits(), b""
    )
