"""Tensor data between JSON and raw bytes, for every datatype that JSON can carry. Pure.

As in Triton, FP16 and BF16 travel as binary data only. JSON has no NaN and no infinity: in answers
both are null, as JavaScript writes them, so that every parser can read the rest; in requests null
is NaN, and the words NaN, Infinity and -Infinity, which Python's encoders write, are taken too.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from itertools import chain

import numpy as np

from kedge.core.datatypes import BYTES, Datatype
from kedge.core.errors import InvalidRequest

BINARY_ONLY = frozenset({"FP16", "BF16"})
# What elements must be, by NumPy's kind of the datatype. Python's bool is an int, JSON's is not.
KINDS: dict[str, set[type]] = {
    "b": {bool},
    "i": {int},
    "u": {int},
    "f": {int, float, type(None)},
    "O": {str},
}


def raw_from_json(label: str, datatype: Datatype, shape: Sequence[int], data: object) -> bytes:
    """The raw contents of a tensor whose values are `data`, one flat list or nested like `shape`.

    label names the tensor in messages. Raises InvalidRequest for values of another type, values
    that the datatype cannot hold, and another number or nesting of values than `shape` has.
    """
    if datatype.name in BINARY_ONLY:
        raise InvalidRequest(
            f"{label}: {datatype.name} data via JSON is not supported, use the binary data format"
        )
    values = _flatten(label, shape, data)
    wrong = set(map(type, values)) - KINDS[datatype.numpy.kind]
    if wrong:
        index = next(i for i, value in enumerate(values) if type(value) in wrong)
        raise InvalidRequest(
            f"{label}: expected {datatype.name} values, got {_shown(values[index])} "
            f"as element {index}"
        )
    if datatype is BYTES:
        return _raw_text(label, values)
    if datatype.numpy.kind in "iu":
        _check_range(label, datatype, values)
    elif datatype.numpy.kind == "f":
        return _raw_floats(label, datatype, values)
    return np.array(values, datatype.numpy.newbyteorder("<")).tobytes()


def json_from_raw(label: str, datatype: Datatype, raw: bytes) -> list[object]:
    """The values of raw contents as one flat list that JSON has values for.

    Raises InvalidRequest if JSON cannot carry them; the client can ask for binary data instead.
    """
    if datatype.name in BINARY_ONLY:
        raise InvalidRequest(
            f"{label}: {datatype.name} data via JSON is not supported, ask for the output with "
            "'binary_data': true"
        )
    if datatype is BYTES:
        return _text_from_raw(label, raw)
    array = np.frombuffer(raw, datatype.numpy.newbyteorder("<"))
    if datatype.numpy.kind == "f" and not np.isfinite(array).all():
        return [value if math.isfinite(value) else None for value in array.tolist()]
    values: list[object] = array.tolist()
    return values


def _flatten(label: str, shape: Sequence[int], data: object) -> list[object]:
    if not isinstance(data, list):
        raise InvalidRequest(f"{label}: expected a list as 'data', got {_shown(data)}")
    level, sizes = data, [len(data)]
    while list in (kinds := set(map(type, level))):
        lengths = {len(item) for item in level} if kinds == {list} else set()
        if len(lengths) != 1:
            raise InvalidRequest(f"{label}: the lists in 'data' are not equally long")
        sizes += lengths
        level = list(chain.from_iterable(level))
    # Lists end at the first dimension of size 0: [2, 0, 3] can only be written as [[], []].
    is_nested_alike = sizes == list(shape[: len(sizes)])
    if len(level) != math.prod(shape) or not (len(sizes) == 1 or is_nested_alike):
        raise InvalidRequest(
            f"{label}: expected data of shape {list(shape)} or {math.prod(shape)} values in one "
            f"list, got shape {sizes}"
        )
    return level


def _check_range(label: str, datatype: Datatype, values: list[object]) -> None:
    limits = np.iinfo(datatype.numpy.name)
    for value in (min(values), max(values)) if values else ():  # type: ignore[type-var]
        if not limits.min <= value <= limits.max:  # type: ignore[operator]
            raise InvalidRequest(
                f"{label}: {datatype.name} holds {limits.min} to {limits.max}, got {_shown(value)}"
            )


def _raw_floats(label: str, datatype: Datatype, values: list[object]) -> bytes:
    if None in values:
        values = [math.nan if value is None else value for value in values]
    try:
        doubles = np.array(values, np.float64)
    except OverflowError:
        raise InvalidRequest(f"{label}: an integer is too large for {datatype.name}") from None
    with np.errstate(over="ignore"):
        array = doubles.astype(datatype.numpy.newbyteorder("<"))
    overflown = np.isfinite(doubles) & ~np.isfinite(array)
    if overflown.any():
        value = doubles[overflown][0]
        raise InvalidRequest(f"{label}: {value} is too large for {datatype.name}")
    return array.tobytes()


def _raw_text(label: str, values: list[object]) -> bytes:
    parts: list[bytes] = []
    for index, value in enumerate(values):
        try:
            element = str(value).encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{label}: element {index} is no valid Unicode text") from None
        parts += (struct.pack("<I", len(element)), element)
    return b"".join(parts)


def _text_from_raw(label: str, raw: bytes) -> list[object]:
    values: list[object] = []
    position = 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4 + length
        try:
            values.append(raw[position - length : position].decode())
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"{label}: element {len(values)} is not UTF-8, ask for the output with "
                "'binary_data': true"
            ) from None
    return values


def _shown(value: object) -> str:
    """A JSON value for a message: on one line, and short even if it is a book."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
