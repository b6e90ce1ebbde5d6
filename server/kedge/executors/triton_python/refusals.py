"""What of Triton's Python backend is not here, each told by its name; and its model exception."""

from __future__ import annotations


class TritonModelException(Exception):
    """What a model raises to fail; `message()` is its text."""

    def message(self) -> str:
        return str(self)


class NotInKedge(TritonModelException):
    """The model asks for a part of Triton that Kedge lacks."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} (triton_python_backend_utils): not in this version of Kedge")


DECOUPLED = "a decoupled model answers through InferenceRequest.get_response_sender"
BLS = "a model calls other models (BLS) with InferenceRequest"
# Names of the module that exist in Triton and would change an answer or be missed here.
REFUSED = {
    "InferenceResponseSender": "InferenceResponseSender: a decoupled model answers through it",
    "ResponseIterator": "ResponseIterator: a model calls decoupled models (BLS) with it",
    "PreferredMemory": "PreferredMemory: a model calls other models (BLS) with it",
    "InferenceTrace": "InferenceTrace: a model calls other models (BLS) with it",
    "load_model": "load_model: a model loads other models",
    "unload_model": "unload_model: a model unloads other models",
    "is_model_ready": "is_model_ready: a model asks for other models",
    "SharedMemory": "SharedMemory: a model manages shared memory regions",
    "MetricFamily": "MetricFamily: a model has metrics of its own",
    "Metric": "Metric: a model has metrics of its own",
    "MetricKind": "MetricKind: a model has metrics of its own",
}
