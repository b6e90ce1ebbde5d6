"""Arrays and lists to the raw bytes of a tensor, and back. Values that would change are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.client.errors import KedgeError, refused
from kedge.client.metadata import Tensor
from kedge.core.datatypes import BYTES, DATATYPES, Datatype
from kedge.core.errors import Status

Array = NDArray[Any]
FP32 = DATATYPES["FP32"]


def encode(tensor: Tensor, values: object) -> tuple[tuple[int, ...], bytes]:
    """The shape and raw contents of `values` as the input `tensor`.

    values: array or nested lists; numbers are converted to the datatype if none of them changes
    beyond rounding; text is sent as UTF-8; BF16 takes floats, rounded to the nearest, or the raw
    bits as uint16. Raises KedgeError when shape or values do not fit.
    """
    if tensor.datatype is BYTES:
        array = _object_array(tensor, values)
        _check_shape(tensor, array.shape)
        return array.shape, _encode_bytes(tensor, array)
    array = _array(tensor, values)
    _check_shape(tensor, array.shape)
    converted = _converted(tensor, array)
    little_endian = converted.dtype.newbyteorder("<")
    return array.shape, converted.astype(little_endian, copy=False).tobytes()


def decode(datatype: Datatype, shape: tuple[int, ...], raw: bytes) -> Array:
    """The array that `raw` holds; read-only and without a copy for numbers.

    BF16 becomes float32, BYTES an object array of `bytes`. Raises KedgeError if the sizes differ.
    """
    try:
        if datatype is BYTES:
            return _decode_bytes(raw).reshape(shape)
        array = np.frombuffer(raw, dtype=datatype.numpy.newbyteorder("<")).reshape(shape)
    except (ValueError, struct.error) as error:
        message = f"the answer has {len(raw)} bytes for {datatype.name}{list(shape)}: {error}"
        raise KedgeError(Status.INTERNAL, message) from None
    if datatype.name == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _array(tensor: Tensor, values: object) -> Array:
    try:
        return np.asarray(values)
    except ValueError:
        raise refused(f"input {tensor.name!r}: the rows have different lengths") from None


def _object_array(tensor: Tensor, values: object) -> Array:
    try:
        return np.asarray(values, dtype=object)
    except ValueError:
        raise refused(f"input {tensor.name!r}: the rows have different lengths") from None


def _check_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    fits = len(shape) == len(tensor.shape) and all(
        expected in (-1, size) for expected, size in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise refused(
            f"input {tensor.name!r}: expected shape {list(tensor.shape)}, got {list(shape)}"
        )


def _converted(tensor: Tensor, array: Array) -> Array:
    wanted = tensor.datatype.numpy
    if array.dtype == wanted or array.size == 0:
        return array.astype(wanted, copy=False)
    if tensor.datatype.name == "BF16":
        return _to_bfloat16(tensor, array)
    kinds = {"b": "b", "u": "biu", "i": "biu", "f": "biuf"}[wanted.kind]
    if array.dtype.kind not in kinds:
        raise refused(
            f"input {tensor.name!r}: expected {tensor.datatype.name}, got {array.dtype} values"
        )
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    changed = (
        np.isfinite(array) & ~np.isfinite(converted)
        if wanted.kind == "f"
        else (converted.astype(array.dtype) != array) | ((converted < 0) != (array < 0))
    )
    if changed.any():
        value = array[changed].flat[0]
        raise refused(f"input {tensor.name!r}: {value} does not fit {tensor.datatype.name}")
    return converted


def _to_bfloat16(tensor: Tensor, array: Array) -> Array:
    """The upper halves of float32, rounded to nearest, ties to even; NaN stays NaN."""
    if array.dtype.name == "bfloat16":  # of ml_dtypes, which tritonclient uses
        return array.view(np.uint16)
    bits = _converted(Tensor(tensor.name, FP32, tensor.shape), array).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    # Rounding could carry a NaN's bits into infinity, or over the sign.
    return np.where(is_nan, (bits >> 16) | 0x40, rounded).astype(np.uint16)


def _encode_bytes(tensor: Tensor, array: Array) -> bytes:
    parts: list[bytes] = []
    for value in array.flat:
        element = value.encode() if isinstance(value, str) else value
        if not isinstance(element, bytes):
            raise refused(f"input {tensor.name!r}: expected text or bytes, got {value!r}")
        parts += (struct.pack("<I", len(element)), element)
    return b"".join(parts)


def _decode_bytes(raw: bytes) -> Array:
    elements: list[bytes] = []
    position = 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4 + length
        if position > len(raw):
            raise ValueError("the last element is cut off")
        elements.append(raw[position - length : position])
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array
