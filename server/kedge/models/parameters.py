"""The parameters of a load call, and how many bytes of them may wait."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from kedge.core.errors import InvalidRequest, Unavailable

FILE = "file:"


def load_parameters(parameters: Mapping[str, object]) -> tuple[str | None, dict[str, bytes]]:
    """The `config` parameter, None if absent, and the files by path.

    Raises InvalidRequest for any other parameter, a wrong type, and files without `config`: they
    are a whole model directory, and nothing else says what is in them.
    """
    files: dict[str, bytes] = {}
    config: str | None = None
    for key, value in parameters.items():
        if key == "config":
            if not isinstance(value, str):
                raise InvalidRequest(_wrong_type(key, "string"))
            config = value
        elif key.startswith(FILE):
            if not isinstance(value, bytes):
                raise InvalidRequest(_wrong_type(key, "bytes"))
            files[key.removeprefix(FILE)] = value
        else:
            raise InvalidRequest(f"unrecognized load parameter '{key}'.")
    if files and config is None:
        raise InvalidRequest(
            f"load parameter '{FILE}{min(files)}': files need the parameter 'config' beside them"
        )
    return config, files


def _wrong_type(key: str, expected: str) -> str:
    return f"invalid value type for load parameter '{key}', expected {expected}_param."


class ByteBudget:
    """So many bytes may be held at once. Safe to use from any thread."""

    def __init__(self, bytes_max: int) -> None:
        self._lock = threading.Lock()
        self._bytes_max = bytes_max
        self._held = 0

    def take(self, nbytes: int) -> int:
        """`nbytes`, to be given back. Raises Unavailable when they are too many now, and
        InvalidRequest when they always are.
        """
        if nbytes > self._bytes_max:
            raise InvalidRequest(
                f"expected files of at most {self._bytes_max} bytes in all, got {nbytes}; put them "
                "into the model repository"
            )
        with self._lock:
            if self._held + nbytes > self._bytes_max:
                raise Unavailable(
                    f"the files of other load calls, {self._held} bytes, wait to be written; try "
                    "later"
                )
            self._held += nbytes
        return nbytes

    def give_back(self, nbytes: int) -> None:
        with self._lock:
            self._held -= nbytes
