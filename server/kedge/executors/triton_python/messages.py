"""`pb_utils` besides tensors: requests, responses, errors and the log.

A request is a whole batch here: what belongs to one client's request is not known and empty.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NoReturn

from kedge.executors.triton_python.refusals import BLS, DECOUPLED, NotInKedge
from kedge.executors.triton_python.tensor import Tensor

log = logging.getLogger("kedge.model")


class TritonError:
    """Why a response has no outputs. code: one of the constants; it becomes the call's status."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = str(message)
        self._code = code

    def __str__(self) -> str:
        return self._message

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class InferenceRequest:
    """The rows of one batch. A model may make one, but calling another model with it is refused."""

    def __init__(  # noqa: PLR0917 - Triton's order
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: object = None,
        trace: object = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._inputs = list(inputs)
        self._requested_output_names = list(requested_output_names)
        self._model = (model_name, model_version)
        self._flags = flags
        self._timeout_us = timeout
        self._parameters = json.dumps(parameters or {})

    def inputs(self) -> list[Tensor]:
        """All declared inputs, in the declared order."""
        return self._inputs

    def requested_output_names(self) -> list[str]:
        """All declared outputs: requests of one batch may want different ones."""
        return self._requested_output_names

    def request_id(self) -> str:
        return self._request_id

    def correlation_id(self) -> int | str:
        return self._correlation_id

    def parameters(self) -> str:
        """JSON, as in Triton."""
        return self._parameters

    def model_name(self) -> str:
        return self._model[0]

    def model_version(self) -> int:
        return self._model[1]

    def flags(self) -> int:
        return self._flags

    def set_flags(self, flags: int) -> None:
        self._flags = flags

    def timeout(self) -> int:
        """In microseconds; 0 for what a client sent."""
        return self._timeout_us

    def is_cancelled(self) -> bool:
        """False: what is cancelled before it runs never gets here."""
        return False

    def trace(self) -> NoReturn:
        raise NotInKedge(f"{BLS}.trace")

    def get_response_sender(self) -> NoReturn:
        raise NotInKedge(DECOUPLED)

    def exec(self, decoupled: bool = False) -> NoReturn:
        raise NotInKedge(f"{BLS}.exec")

    def async_exec(self, decoupled: bool = False) -> NoReturn:
        raise NotInKedge(f"{BLS}.async_exec")


class InferenceResponse:
    """The outputs of one request, or its error."""

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        if parameters:
            raise NotInKedge("InferenceResponse(parameters=...): a response has parameters")
        self._output_tensors = list(output_tensors)
        self._error = error

    def output_tensors(self) -> list[Tensor]:
        return self._output_tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def parameters(self) -> str:
        """JSON, as in Triton."""
        return "{}"


class LogLevel(IntEnum):
    """Triton's levels, by the numbers of Python's."""

    VERBOSE = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR


class Logger:
    """Writes into the server's log; VERBOSE is not shown."""

    LogLevel = LogLevel
    VERBOSE = LogLevel.VERBOSE
    INFO = LogLevel.INFO
    WARNING = LogLevel.WARNING
    ERROR = LogLevel.ERROR

    @staticmethod
    def log(message: str, level: int = logging.INFO) -> None:
        log.log(level, "%s", message)

    @staticmethod
    def log_info(message: str) -> None:
        log.info("%s", message)

    @staticmethod
    def log_warn(message: str) -> None:
        log.warning("%s", message)

    @staticmethod
    def log_error(message: str) -> None:
        log.error("%s", message)

    @staticmethod
    def log_verbose(message: str) -> None:
        log.debug("%s", message)
