"""Typed contents and BYTES elements against tritonclient's own serializer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from kedge.core.bytes_elements import pack_bytes, unpack_bytes
from kedge.core.datatypes import BYTES, DATATYPES
from kedge.core.errors import InvalidRequest
from kedge.pipeline.contents import CONTENTS_FIELD, raw_from_contents
from kedge.proto import InferTensorContents


@given(st.lists(st.binary(max_size=20)))
def test_bytes_elements_are_laid_out_as_tritonclient_does(elements: list[bytes]) -> None:
    expected = serialize_byte_tensor(np.array(elements, dtype=object))
    raw = expected.item() if expected.size else b""
    assert pack_bytes(elements) == raw
    assert unpack_bytes(raw, "x") == elements
    assert list(deserialize_bytes_tensor(pack_bytes(elements))) == elements


@given(st.lists(st.binary(max_size=9), min_size=1), st.integers(min_value=1))
def test_a_cut_off_bytes_tensor_is_refused(elements: list[bytes], cut: int) -> None:
    raw = pack_bytes(elements)
    raw = raw[: len(raw) - 1 - cut % min(len(raw), 4 + len(elements[-1]) - 1 or 1)]
    if len(raw) == len(pack_bytes(elements[:-1])):
        return
    with pytest.raises(InvalidRequest, match="is cut off"):
        unpack_bytes(raw, "x")


@pytest.mark.parametrize("name", sorted(set(CONTENTS_FIELD) - {"BYTES"}))
def test_typed_contents_become_little_endian_elements(name: str) -> None:
    datatype = DATATYPES[name]
    values = np.array([0, 1, 1], dtype=datatype.numpy)
    contents = InferTensorContents(**{CONTENTS_FIELD[name]: values.tolist()})
    assert raw_from_contents(contents, datatype, 3, "x") == values.tobytes()


@pytest.mark.parametrize(
    ("datatype", "contents", "elements", "message"),
    [
        ("FP16", {}, 1, "FP16 has no typed contents"),
        ("FP32", {"fp64_contents": [1.0]}, 1, "expected in fp32_contents, got fp64_contents"),
        ("FP32", {"fp32_contents": [1.0]}, 2, "expected 2 elements, got 1"),
        ("INT8", {"int_contents": [128]}, 1, "128 is no INT8"),
        ("INT8", {"int_contents": [-129]}, 1, "-129 is no INT8"),
        ("UINT16", {"uint_contents": [65_536]}, 1, "65536 is no UINT16"),
    ],
)
def test_wrong_contents_are_refused_with_expected_and_got(
    datatype: str, contents: dict[str, list[float]], elements: int, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        raw_from_contents(InferTensorContents(**contents), DATATYPES[datatype], elements, "x")


def test_bytes_contents_become_raw_elements() -> None:
    contents = InferTensorContents(bytes_contents=[b"a", b""])
    assert raw_from_contents(contents, BYTES, 2, "x") == pack_bytes([b"a", b""])
