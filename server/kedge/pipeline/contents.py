"""Tensor contents between protobuf's typed lists and raw bytes, and the check of BYTES elements.
Pure.

Raw layout: little-endian elements in row-major order; BYTES elements each behind a 4-byte length.
"""

from __future__ import annotations

import numpy as np

from kedge.core.bytes_elements import pack_bytes
from kedge.core.datatypes import Datatype
from kedge.core.errors import InvalidRequest
from kedge.proto import InferTensorContents

# Which typed list carries a datatype. FP16 and BF16 have none: they travel raw only.
CONTENTS_FIELD = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def raw_from_contents(
    contents: InferTensorContents, datatype: Datatype, elements: int, tensor: str
) -> bytes:
    """The raw bytes of a typed list with exactly `elements` values.

    Raises InvalidRequest for a datatype without a list, another number of values, values in another
    datatype's list, or integers out of the datatype's range.
    """
    field = CONTENTS_FIELD.get(datatype.name)
    if field is None:
        raise InvalidRequest(f"{tensor}: {datatype.name} has no typed contents, send it raw")
    others = [other.name for other, _ in contents.ListFields() if other.name != field]
    if others:
        raise InvalidRequest(
            f"{tensor}: {datatype.name} values are expected in {field}, got {', '.join(others)}"
        )
    values = getattr(contents, field)
    if len(values) != elements:
        raise InvalidRequest(
            f"{tensor}: expected {elements} elements, got {len(values)} in {field}"
        )
    if not datatype.is_fixed_size:
        return pack_bytes(values)
    if datatype.numpy.kind in "iu" and values:
        limits = np.iinfo(datatype.numpy.name)
        for value in (min(values), max(values)):
            if not limits.min <= value <= limits.max:
                raise InvalidRequest(f"{tensor}: {value} is no {datatype.name}")
    return np.array(values, dtype=datatype.numpy).tobytes()
