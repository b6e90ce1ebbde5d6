"""The 14 tensor datatypes of the KServe v2 protocol. Not here: how a model runtime names them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Datatype:
    """One wire datatype.

    name: as in a request (`FP32`); config_name: as in config.pbtxt (`TYPE_FP32`); item_bytes: bytes
    per element in raw contents, 0 for BYTES, whose elements carry their own length; numpy: the
    dtype that holds one element. BF16 has none in NumPy and travels as its 16 raw bits.
    """

    name: str
    config_name: str
    item_bytes: int
    numpy: np.dtype[np.generic]

    @property
    def is_fixed_size(self) -> bool:
        """Whether every element has `item_bytes` bytes."""
        return self.item_bytes > 0


def _datatype(name: str, numpy: str, config_name: str = "") -> Datatype:
    dtype = np.dtype(numpy)
    item_bytes = 0 if dtype.hasobject else dtype.itemsize
    return Datatype(name, config_name or f"TYPE_{name}", item_bytes, dtype)


BYTES = _datatype("BYTES", "object", "TYPE_STRING")

DATATYPES: dict[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        _datatype("BOOL", "bool"),
        _datatype("UINT8", "uint8"),
        _datatype("UINT16", "uint16"),
        _datatype("UINT32", "uint32"),
        _datatype("UINT64", "uint64"),
        _datatype("INT8", "int8"),
        _datatype("INT16", "int16"),
        _datatype("INT32", "int32"),
        _datatype("INT64", "int64"),
        _datatype("FP16", "float16"),
        _datatype("FP32", "float32"),
        _datatype("FP64", "float64"),
        _datatype("BF16", "uint16"),
        BYTES,
    )
}
BY_CONFIG_NAME: dict[str, Datatype] = {d.config_name: d for d in DATATYPES.values()}
