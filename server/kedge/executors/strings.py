"""BYTES tensors to and from TorchScript, which knows strings only as (nested) lists of `str`, and
NumPy, which has them as object arrays of `bytes`.

A [rows] or [rows, 1] tensor is a List[str], as Triton's backend has it; more dimensions nest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.core.bytes_elements import LENGTH_BYTES, pack_bytes, unpack_bytes
from kedge.core.errors import InvalidRequest, ModelFailed
from kedge.core.ports import Buffer


def strings_from_raw(raw: Buffer, shape: tuple[int, ...], tensor: str) -> list[object]:
    """The strings of a raw BYTES tensor whose element count was checked before.

    Raises InvalidRequest for an element that is not UTF-8: TorchScript has no byte strings.
    """
    strings: list[object] = []
    for element in unpack_bytes(raw.tobytes(), f"input '{tensor}'"):
        try:
            strings.append(element.decode())
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"input '{tensor}': element {len(strings)} is not UTF-8, which is all that a "
                "TorchScript model takes"
            ) from None
    dims = shape[:1] if shape[1:] == (1,) else shape
    for size in reversed(dims[1:]):
        strings = [strings[start : start + size] for start in range(0, len(strings), size)]
    return strings


def strings_to_raw(
    value: object, tensor: str, batched: bool
) -> tuple[tuple[int, ...], Buffer, NDArray[np.int64] | None]:
    """Shape, raw bytes and, if batched, the end of each row's bytes, of a nested list of `str`."""
    shape = _shape_of(value, tensor)
    rows = value if batched and isinstance(value, list) else [value]
    parts: list[bytes] = []
    ends = []
    for row in rows:
        parts.append(b"".join(_packed(row, shape[1:] if batched else shape, tensor)))
        ends.append(len(parts[-1]))
    data = np.frombuffer(b"".join(parts), dtype=np.uint8)
    return shape, data, np.cumsum(ends, dtype=np.int64) if batched else None


def _shape_of(value: object, tensor: str) -> tuple[int, ...]:
    if isinstance(value, list):
        return (len(value), *(_shape_of(value[0], tensor) if value else ()))
    if isinstance(value, str):
        return ()
    raise ModelFailed(f"output '{tensor}': expected str or lists of it, got {type(value).__name__}")


def _packed(value: object, shape: tuple[int, ...], tensor: str) -> list[bytes]:
    if isinstance(value, str) and not shape:
        return [pack_bytes([value.encode()])]
    if isinstance(value, list) and shape and len(value) == shape[0]:
        return [part for item in value for part in _packed(item, shape[1:], tensor)]
    raise ModelFailed(f"output '{tensor}': its lists of strings have different lengths")


def array_from_elements(elements: Sequence[bytes], shape: tuple[int, ...]) -> NDArray[np.object_]:
    """An object array of `bytes`. Zeros at an element's end stay, which a dtype S would lose."""
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)


def array_to_raw(array: NDArray[Any], batched: bool) -> tuple[Buffer, NDArray[np.int64] | None]:
    """Raw bytes and, if batched, the end of each row's bytes, of an object array.

    `bytes` as they are, everything else as the UTF-8 of its `str`, as Triton has it.
    """
    elements = [
        element if isinstance(element, bytes) else str(element).encode()
        for element in array.reshape(-1).tolist()
    ]
    data = np.frombuffer(pack_bytes(elements), dtype=np.uint8)
    if not batched:
        return data, None
    sizes = np.fromiter((LENGTH_BYTES + len(one) for one in elements), np.int64, len(elements))
    rows = array.shape[0]
    return data, np.cumsum(sizes.reshape(rows, array.size // max(rows, 1)).sum(1), dtype=np.int64)
