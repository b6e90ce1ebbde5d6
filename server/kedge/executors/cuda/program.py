"""A model as the device runs it: typed inputs on raw memory, outputs checked and contiguous."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch

from kedge.core.errors import InvalidRequest, LoadFailed, ModelFailed
from kedge.core.ports import Buffer
from kedge.core.values import ModelSchema, VersionManifest
from kedge.executors.cuda.device import Program
from kedge.executors.tensors import TORCH_DTYPES, Forward, OutputReader

Dims = Sequence[tuple[int, ...]]


def check_numeric(manifest: VersionManifest) -> None:
    """Raises LoadFailed for BYTES tensors: a GPU has no strings."""
    schema = manifest.schema
    for kind, specs in (("input", schema.inputs), ("output", schema.outputs)):
        for spec in specs:
            if spec.datatype.name not in TORCH_DTYPES:
                raise LoadFailed(
                    f"model '{manifest.ref}': {kind} '{spec.name}' is {spec.datatype.name}, which "
                    "no GPU holds; serve this model with device 'cpu'"
                )


class Model(NamedTuple):
    """A version as it is run: manifest, the model on the device, what checks its answers."""

    manifest: VersionManifest
    forward: Forward
    outputs: OutputReader

    def program(self, rows: int) -> Program:
        """The model for batches of `rows` rows. Raises ModelFailed for answers that are not as
        declared, or not on the device.
        """

        def program(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            answer = self.outputs.tensors(self.forward(*inputs), rows)
            device = inputs[0].device
            for tensor in answer:
                if tensor.device != device:
                    raise ModelFailed(
                        f"model '{self.manifest.ref}' is on {device} and answers on {tensor.device}"
                    )
            return [tensor.contiguous() for tensor in answer]

        return program


class Inputs:
    """The sizes and types of a version's inputs."""

    def __init__(self, schema: ModelSchema) -> None:
        self._schema = schema
        self._dtypes = [TORCH_DTYPES[spec.datatype.name] for spec in schema.inputs]
        self._item_bytes = [spec.datatype.item_bytes for spec in schema.inputs]
        self.fixed_row_bytes = [
            prod(spec.dims) * spec.datatype.item_bytes if spec.has_fixed_dims else -1
            for spec in schema.inputs
        ]
        self.fixed_dims = [spec.dims for spec in schema.inputs]
        self.is_fixed = all(nbytes >= 0 for nbytes in self.fixed_row_bytes)

    def row_bytes(self, dims: Dims) -> list[int]:
        """Bytes of one row of each input."""
        if self.is_fixed:
            return self.fixed_row_bytes
        return [prod(row) * size for row, size in zip(dims, self._item_bytes, strict=True)]

    def check(self, sizes: list[int], inputs: Sequence[Buffer]) -> None:
        """Raises InvalidRequest unless every input has its size in bytes: what is short would be
        filled up with another caller's bytes.
        """
        for spec, size, raw in zip(self._schema.inputs, sizes, inputs, strict=True):
            if raw.size != size:
                raise InvalidRequest(
                    f"input '{spec.name}': expected {size} bytes, got {raw.size} bytes"
                )

    def typed(self, rows: int, dims: Dims, raw: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Flat device bytes of `rows` rows as the tensors that the model takes."""
        batch_dims = (rows,) if self._schema.batched else ()
        return [
            tensor.view(dtype).view((*batch_dims, *row))
            for tensor, dtype, row in zip(raw, self._dtypes, dims, strict=True)
        ]
