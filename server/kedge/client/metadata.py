"""What a server says about a model, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kedge import proto
from kedge.client.errors import KedgeError
from kedge.core.datatypes import DATATYPES, Datatype
from kedge.core.errors import Status


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output. shape: on the wire, -1 = any size, the batch first if there is one."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.datatype.name}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """A model: its served versions, platform, inputs and outputs in the model's order."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_metadata(answer: proto.ModelMetadataResponse) -> ModelMetadata:
    """Raises KedgeError for a datatype that the protocol does not have."""
    return ModelMetadata(
        name=answer.name,
        versions=tuple(answer.versions),
        platform=answer.platform,
        inputs=_tensors(answer.inputs),
        outputs=_tensors(answer.outputs),
    )


def _tensors(
    tensors: Iterable[proto.ModelMetadataResponse.TensorMetadata],
) -> tuple[Tensor, ...]:
    for tensor in tensors:
        if tensor.datatype not in DATATYPES:
            message = f"{tensor.name!r} has the unknown datatype {tensor.datatype!r}"
            raise KedgeError(Status.INTERNAL, message)
    return tuple(
        Tensor(tensor.name, DATATYPES[tensor.datatype], tuple(tensor.shape)) for tensor in tensors
    )
