"""A connection to a server: predictions, metadata, readiness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc

from kedge import proto
from kedge.client.errors import KedgeError, from_rpc, refused
from kedge.client.metadata import ModelMetadata, read_metadata
from kedge.client.prediction import Prediction
from kedge.client.tensors import encode
from kedge.core.errors import Status

_Answer = TypeVar("_Answer")

# gRPC's own limit is 4 MiB per message; the server bounds its queues in bytes instead.
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


def connect(address: str, token: str | None = None, timeout_s: float | None = 60.0) -> Client:
    """A client of the server at `address` (HOST:PORT); connects with the first call.

    token: sent as bearer token; timeout_s: longest wait for one answer, None = no limit.
    """
    return Client(address, token, timeout_s)


class Client:
    """Calls one server; safe to share between threads. All methods raise KedgeError.

    A model's metadata is fetched once, and again when a request does not fit it any more.
    """

    def __init__(self, address: str, token: str | None, timeout_s: float | None) -> None:
        if "://" in address or not address:
            raise refused(f"expected an address HOST:PORT, got {address!r}")
        self.address = address
        self._timeout_s = timeout_s
        self._call_metadata = call_metadata(token)
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._known: dict[tuple[str, str], ModelMetadata] = {}
        self._infer = self._method("ModelInfer", proto.ModelInferResponse.FromString)
        self._metadata = self._method("ModelMetadata", proto.ModelMetadataResponse.FromString)
        self._model_ready = self._method("ModelReady", proto.ModelReadyResponse.FromString)
        self._server_ready = self._method("ServerReady", proto.ServerReadyResponse.FromString)

    def predict(
        self,
        name: str,
        inputs: Mapping[str, object],
        version: str = "",
        outputs: Sequence[str] | None = None,
        request_id: str = "",
    ) -> Prediction:
        """Run model `name` on `inputs`, arrays or nested lists by input name.

        version: "" = newest; outputs: only these, None = all; request_id: comes back unchanged.
        """
        wanted = (version, outputs or (), request_id)
        is_fresh = (name, version) not in self._known
        metadata = self.metadata(name, version)
        try:
            return self._predict(metadata, inputs, *wanted)
        except KedgeError as error:
            if is_fresh or error.status is not Status.INVALID_ARGUMENT:
                raise
            # The model may have been replaced since its metadata was read.
            self._known.pop((name, version), None)
            if self.metadata(name, version) == metadata:
                raise
        return self._predict(self.metadata(name, version), inputs, *wanted)

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """What the server says about a model; version: "" = newest. Cached."""
        known = self._known.get((name, version))
        if known is None:
            request = proto.ModelMetadataRequest(name=name, version=version)
            known = read_metadata(self._metadata(request))
            self._known[name, version] = known
        return known

    def ready(self, name: str = "", version: str = "") -> bool:
        """Whether the server, or one of its models, answers requests. False if nobody listens."""
        try:
            if name:
                request = proto.ModelReadyRequest(name=name, version=version)
                return self._model_ready(request).ready
            return self._server_ready(proto.ServerReadyRequest()).ready
        except KedgeError as error:
            if error.status is Status.UNAVAILABLE:
                return False
            raise

    def close(self) -> None:
        """End the connection; calls that still run are cancelled."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.address}>"

    def _predict(
        self,
        metadata: ModelMetadata,
        inputs: Mapping[str, object],
        version: str,
        outputs: Sequence[str],
        request_id: str,
    ) -> Prediction:
        request = infer_request(metadata, inputs)
        request.model_version = version
        request.id = request_id
        for output in outputs:
            request.outputs.add(name=output)
        return Prediction(self._infer(request))

    def _method(self, name: str, parse: Callable[[bytes], _Answer]) -> Callable[[Any], _Answer]:
        call: grpc.UnaryUnaryMultiCallable[Any, _Answer] = self._channel.unary_unary(
            f"{proto.INFERENCE_SERVICE}{name}",
            request_serializer=lambda message: bytes(message.SerializeToString()),
            response_deserializer=parse,
        )

        def run(request: Any) -> _Answer:
            try:
                return call(request, timeout=self._timeout_s, metadata=self._call_metadata)
            except grpc.RpcError as error:
                raise from_rpc(error) from None
            except ValueError as error:  # what a closed channel raises
                raise KedgeError(Status.FAILED_PRECONDITION, str(error)) from None

        return run


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata of every call: the bearer token, if there is one."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def infer_request(metadata: ModelMetadata, inputs: Mapping[str, object]) -> proto.ModelInferRequest:
    """`inputs` as a request, encoded as the model declares them. Raises KedgeError.

    An input that is missing is left to the server: only it knows which are optional.
    """
    declared = {tensor.name: tensor for tensor in metadata.inputs}
    for name in inputs:
        if name not in declared:
            known = "; ".join(map(str, metadata.inputs))
            raise refused(f"model {metadata.name!r} has no input {name!r}, it has {known}")
    request = proto.ModelInferRequest(model_name=metadata.name)
    for name, values in inputs.items():
        tensor = declared[name]
        shape, raw = encode(tensor, values)
        request.inputs.add(name=name, datatype=tensor.datatype.name, shape=shape)
        request.raw_input_contents.append(raw)
    return request
