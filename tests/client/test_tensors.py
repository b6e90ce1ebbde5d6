from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from kedge.client import KedgeError
from kedge.client.metadata import Tensor
from kedge.client.tensors import Array, decode, encode
from kedge.core.datatypes import DATATYPES

FIXED = [name for name in DATATYPES if name not in {"BYTES", "BF16"}]


def tensor(datatype: str, shape: tuple[int, ...] = (-1,)) -> Tensor:
    return Tensor("x", DATATYPES[datatype], shape)


@pytest.mark.parametrize("name", FIXED)
@given(data=st.data())
def test_an_array_of_the_datatype_comes_back_bit_for_bit(name: str, data: st.DataObject) -> None:
    shapes = arrays.array_shapes(min_dims=2, max_dims=2, min_side=0)
    array = data.draw(arrays.arrays(DATATYPES[name].numpy, shapes))
    shape, raw = encode(tensor(name, (-1, -1)), array)
    assert raw == array.tobytes()
    assert decode(DATATYPES[name], shape, raw).tobytes() == array.tobytes()


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bytes_are_written_and_read_as_tritonclient_does(elements: list[bytes]) -> None:
    array = np.array(elements, dtype=object)
    shape, raw = encode(tensor("BYTES"), elements)
    written = serialize_byte_tensor(array)
    assert raw == (written.item() if written.size else b"")
    assert decode(DATATYPES["BYTES"], shape, raw).tolist() == elements
    assert deserialize_bytes_tensor(raw).tolist() == elements


def test_text_is_sent_as_utf8() -> None:
    _, raw = encode(tensor("BYTES", (-1, 2)), [["ä", b"\xff"]])
    assert raw == b"\x02\0\0\0\xc3\xa4\x01\0\0\0\xff"


@given(arrays.arrays(np.float32, 20))
def test_bf16_is_rounded_to_nearest_as_torch_does(array: Array) -> None:
    _, raw = encode(tensor("BF16"), array)
    expected = torch.from_numpy(array).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(decode(DATATYPES["BF16"], (20,), raw), expected)


def test_bf16_comes_back_as_float32() -> None:
    raw = torch.tensor([1.5, -3.25, 0.0]).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    decoded = decode(DATATYPES["BF16"], (3,), raw)
    assert decoded.dtype == np.float32
    assert decoded.tolist() == [1.5, -3.25, 0.0]


@pytest.mark.parametrize(
    "array", [np.array([0x3FC0], np.uint16), np.array([1.5], ml_dtypes.bfloat16)]
)
def test_bf16_takes_its_raw_bits_and_the_arrays_of_tritonclient(array: Array) -> None:
    _, raw = encode(tensor("BF16"), array)
    assert raw == b"\xc0\x3f"


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("FP32", [1, 2.5], np.array([1, 2.5], np.float32)),
        ("FP16", np.array([0.1]), np.array([0.1], np.float16)),
        ("FP16", [np.inf, np.nan], np.array([np.inf, np.nan], np.float16)),
        ("INT8", [-128, 127], np.array([-128, 127], np.int8)),
        ("UINT64", [2**64 - 1], np.array([2**64 - 1], np.uint64)),
        ("INT64", np.array([1, 2], ">i4"), np.array([1, 2], np.int64)),
        ("INT32", [True, False], np.array([1, 0], np.int32)),
        ("BOOL", [True, False], np.array([True, False])),
        ("INT32", [], np.array([], np.int32)),
    ],
)
def test_values_are_converted_to_the_datatype(
    datatype: str, values: object, expected: Array
) -> None:
    assert encode(tensor(datatype), values) == (expected.shape, expected.tobytes())


@pytest.mark.parametrize(
    ("datatype", "values", "message"),
    [
        ("INT8", [128], "128 does not fit INT8"),
        ("INT8", [-129], "-129 does not fit INT8"),
        ("UINT8", [-1], "-1 does not fit UINT8"),
        ("INT64", np.array([2**63], np.uint64), "9223372036854775808 does not fit INT64"),
        ("UINT64", [-1], "-1 does not fit UINT64"),
        ("FP16", [65520.0], "65520.0 does not fit FP16"),
        ("FP32", [1e39], r"1e\+39 does not fit FP32"),
        ("INT64", [1.0], "expected INT64, got float64 values"),
        ("BOOL", [1], "expected BOOL, got int64 values"),
        ("FP32", ["1"], "expected FP32, got <U1 values"),
        ("FP32", [None], "expected FP32, got object values"),
        ("FP32", [[1], [2, 3]], "different lengths"),
        ("FP32", [[1.0]], r"expected shape \[-1\], got \[1, 1\]"),
        ("FP32", 1.0, r"expected shape \[-1\], got \[\]"),
        ("BYTES", [1], "expected text or bytes, got 1"),
        ("BYTES", [["a"], ["b", "c"]], "different lengths|expected text or bytes"),
    ],
)
def test_values_that_would_change_or_do_not_fit_are_refused(
    datatype: str, values: object, message: str
) -> None:
    with pytest.raises(KedgeError, match=f"input 'x': .*{message}"):
        encode(tensor(datatype), values)


@pytest.mark.parametrize("raw", [b"\x05\0\0\0ab", b"\x01\0", b"\x01\0\0\0a\x00"])
def test_bytes_that_are_cut_off_are_an_error(raw: bytes) -> None:
    with pytest.raises(KedgeError, match="the answer has"):
        decode(DATATYPES["BYTES"], (1,), raw)
