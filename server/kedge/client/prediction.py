"""One answer of a model: its outputs by name, and which version gave it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kedge import proto
from kedge.client.errors import KedgeError
from kedge.client.tensors import Array, decode
from kedge.core.datatypes import DATATYPES
from kedge.core.errors import Status


class Prediction(Mapping[str, Array]):
    """Outputs by name, in the model's order. Arrays of numbers are read-only views of the answer.

    model, version: what answered; request_id: as sent, or given by the server.
    """

    def __init__(self, answer: proto.ModelInferResponse) -> None:
        self.model = answer.model_name
        self.version = answer.model_version
        self.request_id = answer.id
        self._outputs = _outputs(answer)

    def __getitem__(self, name: str) -> Array:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name}{list(array.shape)}" for name, array in self.items())
        return f"<Prediction {self.model}:{self.version} [{outputs}]>"


def _outputs(answer: proto.ModelInferResponse) -> dict[str, Array]:
    outputs, contents = answer.outputs, answer.raw_output_contents
    if len(outputs) != len(contents):
        message = f"the answer has {len(outputs)} outputs and {len(contents)} raw contents"
        raise KedgeError(Status.INTERNAL, message)
    decoded = {}
    for output, raw in zip(outputs, contents, strict=True):
        datatype = DATATYPES.get(output.datatype)
        if datatype is None:
            message = f"{output.name!r} has the unknown datatype {output.datatype!r}"
            raise KedgeError(Status.INTERNAL, message)
        decoded[output.name] = decode(datatype, tuple(output.shape), raw)
    return decoded
