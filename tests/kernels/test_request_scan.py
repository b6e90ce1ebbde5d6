"""Scanned requests against the slow twin, which reads with tritonclient's messages."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.service_pb2 import InferParameter, ModelInferRequest

from kedge_kernels import codec
from kedge_kernels.codec import InputPlan, RequestPlan, RequestTable
from support.codec_messages import (
    PLAN,
    mutated,
    plain_request,
    random_plans,
    random_request,
    spoiled,
)
from support.reference_codec import columns_of, read

randoms = st.randoms(use_true_random=False)
TABLE = RequestTable([PLAN])


@settings(max_examples=400, deadline=None)
@given(randoms)
def test_plain_requests_are_read_fast_and_as_protobuf_reads_them(random: Random) -> None:
    plans = random_plans(random)
    table = RequestTable(plans)
    requests = [random_request(random, random.choice(plans)) for _ in range(4)]
    payloads = [request.SerializeToString() for request in requests]
    fields = codec.scan(payloads, table)
    assert fields[:, codec.CODE].tolist() == [0] * 4
    for row, payload in zip(fields, payloads, strict=True):
        assert columns_of(row, table) == read(payload, plans)


@settings(max_examples=500, deadline=None)
@given(randoms)
def test_what_is_accepted_of_odd_messages_the_twin_accepts_with_equal_values(
    random: Random,
) -> None:
    plans = random_plans(random, bytes_share=0.02)
    table = RequestTable(plans)
    payloads = []
    for _ in range(8):
        request = random_request(random, random.choice(plans))
        payloads.append(spoiled(random, request))
        payloads.append(mutated(random, payloads[-1]))
    for row, payload in zip(codec.scan(payloads, table), payloads, strict=True):
        if row[codec.CODE] == 0:
            assert columns_of(row, table) == read(payload, plans)
        else:
            assert not np.delete(row, codec.CODE).any()


def final_response(request: ModelInferRequest) -> InferParameter:
    """The parameter that Triton's C++ client sends with every request, still without a value."""
    return request.parameters["triton_enable_empty_final_response"]


def code(payload: bytes) -> int:
    [row] = codec.scan([payload], TABLE)
    return int(row[codec.CODE])


Spoil = Callable[[ModelInferRequest], object]
FALLBACKS: list[tuple[int, Spoil]] = [
    (0, lambda request: None),
    (0, lambda request: setattr(request, "model_version", "3")),
    (0, lambda request: request.outputs.add(name="b")),
    (codec.FALLBACK_MODEL, lambda request: setattr(request, "model_name", "n")),
    (codec.FALLBACK_MODEL, lambda request: setattr(request, "model_name", "")),
    (codec.FALLBACK_MODEL, lambda request: setattr(request, "model_version", "03")),
    (codec.FALLBACK_MODEL, lambda request: setattr(request, "model_version", "4")),
    (codec.FALLBACK_ID, lambda request: setattr(request, "id", "ü")),
    (0, lambda request: setattr(request, "id", "\x7f" * 1024)),
    (codec.FALLBACK_ID, lambda request: setattr(request, "id", "x" * 1025)),
    (codec.FALLBACK_INPUT, lambda request: setattr(request.inputs[0], "name", "y")),
    (codec.FALLBACK_INPUT, lambda request: setattr(request.inputs[0], "name", "z")),
    (codec.FALLBACK_INPUT, lambda request: setattr(request.inputs[0], "datatype", "FP64")),
    (codec.FALLBACK_INPUT, lambda request: request.inputs.pop()),
    (codec.FALLBACK_CONTENTS, lambda request: request.inputs.append(request.inputs[0])),
    (codec.FALLBACK_INPUT, lambda request: request.parameters["p"]),
    (0, lambda request: setattr(final_response(request), "bool_param", True)),
    (codec.FALLBACK_INPUT, lambda request: setattr(final_response(request), "int64_param", 1)),
    (codec.FALLBACK_FORM, lambda request: request.inputs[0].parameters["p"]),
    (codec.FALLBACK_FORM, lambda request: request.inputs[0].contents.SetInParent()),
    (codec.FALLBACK_FORM, lambda request: request.outputs.add(name="a").parameters["p"]),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[0].shape.append(1)),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[0].shape.pop()),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[0].ClearField("shape")),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[0].shape.__setitem__(1, 3)),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[1].shape.__setitem__(1, -1)),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[1].shape.__setitem__(1, 2**31)),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[1].shape.__setitem__(1, 2**62)),
    (codec.FALLBACK_SHAPE, lambda request: request.inputs[1].shape.__setitem__(0, 3)),
    (codec.FALLBACK_CONTENTS, lambda request: request.inputs[1].shape.__setitem__(1, 6)),
    (codec.FALLBACK_OUTPUT, lambda request: request.outputs.add(name="c")),
    (codec.FALLBACK_OUTPUT, lambda request: request.outputs.add()),
    (codec.FALLBACK_OUTPUT, lambda request: [request.outputs.add(name="a") for _ in "12"]),
    (codec.FALLBACK_CONTENTS, lambda request: request.raw_input_contents.pop()),
    (codec.FALLBACK_FORM, lambda request: request.raw_input_contents.append(b"")),
]


@pytest.mark.parametrize(("expected", "spoil"), FALLBACKS)
def test_each_fault_has_its_code(expected: int, spoil: Spoil) -> None:
    request = plain_request()
    spoil(request)
    assert code(request.SerializeToString()) == expected


@pytest.mark.parametrize(
    ("rows", "free", "expected"),
    [
        (1, 5, 0),
        (4, 5, 0),
        (4, 0, 0),
        (0, 5, codec.FALLBACK_SHAPE),
        (5, 5, codec.FALLBACK_SHAPE),
    ],
)
def test_rows_are_one_to_rows_max_and_other_dimensions_may_be_zero(
    rows: int, free: int, expected: int
) -> None:
    assert code(plain_request(rows, free).SerializeToString()) == expected


@pytest.mark.parametrize("shape", [[2**22, 2**21, 2**21], [2**16, 2**16, 1], [2**31, 1, 0]])
def test_a_product_of_dimensions_that_overflows_is_not_taken_for_a_small_one(
    shape: list[int],
) -> None:
    """2**22 * 2**21 * 2**21 is 0 in 64 bits, so it would need no bytes."""
    free = InputPlan("x", "INT8", 1, (-1, -1, -1))
    table = RequestTable([RequestPlan("m", 1, True, (free,), (), batched=False, rows_max=1)])
    request = ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="INT8", shape=shape)
    request.raw_input_contents.append(b"")
    [row] = codec.scan([request.SerializeToString()], table)
    assert row[codec.CODE] == codec.FALLBACK_SHAPE


WIRE_FAULTS = {
    "a field of the next version": lambda wire: wire + b"\x42\x00",
    "a varint field": lambda wire: wire + b"\x40\x01",
    "a group": lambda wire: wire + b"\x43\x44",
    "a repeated model name": lambda wire: b"\n\x01m" + wire,
    "a name after the inputs": lambda wire: wire[3:] + wire[:3],
    "a length of two bytes where one is enough": lambda wire: b"\n\x81\x00m" + wire[3:],
    "a length of ten bytes": lambda wire: b"\n\x81" + b"\x80" * 8 + b"\x00m" + wire[3:],
    "an unpacked shape": lambda wire: wire.replace(b"\x1a\x02\x02\x02", b"\x18\x02\x18\x02"),
    "a shape in two pieces": lambda wire: wire.replace(
        b"*\x0d\n\x01x\x12\x04FP32\x1a\x02\x02\x02",
        b"*\x0f\n\x01x\x12\x04FP32\x1a\x01\x02\x1a\x01\x02",
    ),
}


@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_wire_forms_that_clients_do_not_write_are_left_to_protobuf(fault: str) -> None:
    wire = plain_request().SerializeToString()
    changed = WIRE_FAULTS[fault](wire)
    assert changed != wire
    assert code(wire) == 0
    assert code(changed) != 0


def test_every_truncation_falls_back() -> None:
    wire = plain_request().SerializeToString()
    codes = codec.scan([wire[:size] for size in range(len(wire))], TABLE)[:, codec.CODE]
    assert codes.all()


def test_an_empty_message_and_an_empty_table_fall_back() -> None:
    assert code(b"") == codec.FALLBACK_MODEL
    [row] = codec.scan([plain_request().SerializeToString()], RequestTable([]))
    assert row[codec.CODE] == codec.FALLBACK_MODEL
    assert codec.scan([], TABLE).shape == (0, TABLE.width)


def test_only_bytes_objects_are_scanned() -> None:
    wire = plain_request().SerializeToString()
    others: list[Any] = [bytearray(wire), memoryview(wire), "m", type("Sub", (bytes,), {})(wire)]
    for other in others:
        with pytest.raises(TypeError, match="expected bytes to scan"):
            codec.scan([wire, other], TABLE)


def test_plans_beyond_the_codec_always_fall_back() -> None:
    def fits(inputs: int, outputs: int, item_bytes: int) -> bool:
        names = [f"t{number}" for number in range(max(inputs, outputs))]
        plan = RequestPlan(
            name="m",
            version=1,
            newest=True,
            inputs=tuple(InputPlan(name, "UINT8", item_bytes, ()) for name in names[:inputs]),
            outputs=tuple(names[:outputs]),
            batched=False,
            rows_max=1,
        )
        request = ModelInferRequest(model_name="m")
        for name in names[:inputs]:
            request.inputs.add(name=name, datatype="UINT8")
            request.raw_input_contents.append(bytes(item_bytes))
        table = RequestTable([plan])
        assert table.plans == (plan,)
        [row] = codec.scan([request.SerializeToString()], table)
        if row[codec.CODE] == 0:
            assert columns_of(row, table) == read(request.SerializeToString(), [plan])
        return bool(row[codec.CODE] == 0)

    assert fits(inputs=64, outputs=62, item_bytes=1)
    assert not fits(inputs=65, outputs=62, item_bytes=1)
    assert not fits(inputs=64, outputs=63, item_bytes=1)
    assert not fits(inputs=1, outputs=1, item_bytes=0)
    assert not fits(inputs=0, outputs=1, item_bytes=1)


def test_each_of_a_thousand_plans_is_found_by_name_and_version() -> None:
    plans = [
        RequestPlan(f"model{n // 2}", n % 2 + 1, n % 2 == 1, PLAN.inputs, (), True, 4)
        for n in range(1000)
    ]
    requests = []
    for number, plan in enumerate(plans):
        request = plain_request()
        request.model_name = plan.name
        request.model_version = "" if plan.newest and number % 4 == 1 else str(plan.version)
        requests.append(request.SerializeToString())
    fields = codec.scan(requests, RequestTable(plans))
    assert not fields[:, codec.CODE].any()
    assert fields[:, codec.PLAN].tolist() == list(range(1000))


def test_two_plans_for_one_name_and_version_are_refused() -> None:
    with pytest.raises(ValueError, match="two plans for model 'm', version ''"):
        RequestTable([PLAN, RequestPlan("m", 4, True, PLAN.inputs, (), True, 4)])
