"""Tensor data as JSON: what tritonclient writes is read, what we write tritonclient reads."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http import InferInput
from tritonclient.utils import serialize_byte_tensor

from kedge.control.http.json_tensors import json_from_raw, raw_from_json
from kedge.core.datatypes import DATATYPES
from kedge.core.errors import InvalidRequest

IN_JSON = sorted(DATATYPES.keys() - {"FP16", "BF16", "BYTES"})


def raw(datatype: str, shape: list[int], data: object) -> bytes:
    return raw_from_json("input 'x'", DATATYPES[datatype], shape, data)


def refusal(datatype: str, shape: list[int], data: object) -> str:
    with pytest.raises(InvalidRequest) as refused:
        raw(datatype, shape, data)
    return str(refused.value)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, Any]:
    name = draw(st.sampled_from(IN_JSON))
    shape = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
    return name, draw(hnp.arrays(DATATYPES[name].numpy, shape))


@given(arrays())
def test_what_tritonclient_writes_as_json_becomes_the_bytes_that_it_sends_as_binary(
    case: tuple[str, Any],
) -> None:
    datatype, array = case
    tensor = InferInput("x", list(array.shape), datatype)
    data = tensor.set_data_from_numpy(array, binary_data=False)._get_tensor()["data"]
    # NaN and the infinities included: only the bits inside a NaN may differ.
    received = raw(datatype, list(array.shape), json.loads(json.dumps(data)))
    given_values = np.frombuffer(received, array.dtype).reshape(array.shape)
    np.testing.assert_array_equal(given_values, array)


@given(arrays())
def test_nested_lists_and_one_flat_list_are_the_same_tensor(case: tuple[str, Any]) -> None:
    datatype, array = case
    shape = list(array.shape)
    assert raw(datatype, shape, array.tolist()) == raw(datatype, shape, array.ravel().tolist())


@given(arrays())
def test_every_answer_is_json_for_strict_parsers_and_equal_where_json_has_the_value(
    case: tuple[str, Any],
) -> None:
    datatype, array = case
    values = json_from_raw("output 'y'", DATATYPES[datatype], array.tobytes())
    text = json.dumps(values, allow_nan=False)
    received = np.array(json.loads(text), array.dtype)
    expected = array.ravel()
    if array.dtype.kind == "f":
        expected = np.where(np.isfinite(expected), expected, np.nan)
    np.testing.assert_array_equal(received, expected)


@given(st.lists(st.text()))
def test_text_travels_as_tritonclient_serializes_it(values: list[str]) -> None:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    expected = serialize_byte_tensor(array).item() if values else b""
    received = raw("BYTES", [len(values)], values)
    assert received == expected
    assert json_from_raw("output 'y'", DATATYPES["BYTES"], received) == values


@pytest.mark.parametrize("name", sorted(DATATYPES.keys() - {"BYTES", "BOOL"}))
def test_integers_are_taken_to_the_limits_of_the_datatype_and_not_beyond(name: str) -> None:
    if DATATYPES[name].numpy.kind not in "iu" or name == "BF16":
        return
    limits = np.iinfo(DATATYPES[name].numpy.name)
    ends = [int(limits.min), int(limits.max)]
    assert np.frombuffer(raw(name, [2], ends), DATATYPES[name].numpy).tolist() == ends
    for beyond in (ends[0] - 1, ends[1] + 1):
        assert refusal(name, [2], [0, beyond]) == (
            f"input 'x': {name} holds {ends[0]} to {ends[1]}, got {beyond}"
        )


@pytest.mark.parametrize("name", ["FP16", "BF16"])
def test_half_precision_is_binary_only_as_in_triton(name: str) -> None:
    assert "use the binary data format" in refusal(name, [1], [1.0])
    with pytest.raises(InvalidRequest, match="'binary_data': true"):
        json_from_raw("output 'y'", DATATYPES[name], b"\0\0")


@pytest.mark.parametrize(
    ("datatype", "value", "shown"),
    [
        ("INT32", 1.0, "1.0"),
        ("INT32", True, "true"),
        ("INT32", None, "null"),
        ("UINT8", "7", '"7"'),
        ("FP32", True, "true"),
        ("FP64", "1.5", '"1.5"'),
        ("BOOL", 1, "1"),
        ("BYTES", 5, "5"),
        ("BYTES", {"a": 1}, "an object"),
        ("FP32", "x" * 1000, '"' + "x" * 39 + "…"),
    ],
)
def test_an_element_of_another_type_is_shown_with_its_place(
    datatype: str, value: object, shown: str
) -> None:
    fitting: object = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)
    text = refusal(datatype, [3], [fitting, fitting, value])
    assert text == f"input 'x': expected {datatype} values, got {shown} as element 2"


@pytest.mark.parametrize(
    ("shape", "data", "found"),
    [
        ([2, 2], [[1, 2, 3, 4]], "[1, 4]"),
        ([2, 3], [[1, 2], [3, 4], [5, 6]], "[3, 2]"),
        ([4], [1, 2, 3], "[3]"),
        ([0], [1], "[1]"),
        ([1], [], "[0]"),
        ([], [], "[0]"),
        ([2**40, 2**40], [1], "[1]"),
    ],
)
def test_data_of_another_shape_is_refused_with_both_shapes(
    shape: list[int], data: list[object], found: str
) -> None:
    text = refusal("INT32", shape, data)
    assert f"expected data of shape {shape} or {math.prod(shape)} values" in text
    assert text.endswith(f"got shape {found}")


@pytest.mark.parametrize("data", [[[1, 2], [3]], [[1], 2], [1, [2]], [[[1]], [2]]])
def test_ragged_lists_are_refused(data: list[object]) -> None:
    assert "not equally long" in refusal("INT32", [2, 2], data)


@pytest.mark.parametrize("data", [None, 1, "abc", {"0": 1}])
def test_data_that_is_no_list_is_refused(data: object) -> None:
    assert "expected a list as 'data'" in refusal("INT32", [1], data)


def test_a_scalar_shape_holds_one_value() -> None:
    assert raw("UINT8", [], [7]) == b"\x07"


def test_null_is_nan() -> None:
    assert math.isnan(np.frombuffer(raw("FP32", [1], [None]), np.float32)[0])


def test_a_finite_number_never_becomes_infinite() -> None:
    largest = float(np.finfo(np.float32).max)
    assert np.frombuffer(raw("FP32", [1], [largest]), np.float32)[0] == np.float32(largest)
    assert refusal("FP32", [1], [1e39]) == "input 'x': 1e+39 is too large for FP32"
    assert "too large for FP64" in refusal("FP64", [1], [10**400])
    assert np.isinf(np.frombuffer(raw("FP32", [1], [math.inf]), np.float32)[0])


def test_text_that_no_encoder_can_write_is_refused() -> None:
    assert "element 1 is no valid Unicode" in refusal("BYTES", [2], ["a", "\ud800"])


def test_bytes_that_are_no_text_can_only_be_answered_as_binary_data() -> None:
    with pytest.raises(InvalidRequest, match=r"element 1 is not UTF-8, ask for the output with"):
        json_from_raw("output 'y'", DATATYPES["BYTES"], b"\1\0\0\0a\1\0\0\0\xff")
