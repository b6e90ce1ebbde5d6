"""The codec against its slow twin, which reads and writes with tritonclient's messages."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import prod
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.service_pb2 import InferParameter, ModelInferRequest

from kedge_kernels import codec
from kedge_kernels.codec import AnswerTable, InputPlan, OutputPlan, RequestPlan, RequestTable
from support.codec_messages import mutated, random_plans, random_request, spoiled
from support.reference_codec import columns_of, read, write

randoms = st.randoms(use_true_random=False)


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


@settings(max_examples=300, deadline=None)
@given(randoms)
def test_answers_are_the_bytes_that_protobuf_writes(random: Random) -> None:
    plan = random.choice(random_plans(random))
    table = RequestTable([plan])
    requests = [random_request(random, plan) for _ in range(random.randint(1, 5))]
    payloads = [request.SerializeToString() for request in requests]
    columns = [read(payload, [plan]) for payload in payloads]
    specs = [OutputPlan(name, "FP32", 4) for name in plan.outputs]
    dims = [random.choice(((), (0,), (1,), (3, 2), (130,))) for _ in specs]
    rows = sum(request.rows for request in columns)
    outputs = [random.randbytes(rows * 4 * prod(row_dims)) for row_dims in dims]
    answers = codec.encode(
        AnswerTable(plan.name, plan.version, specs, plan.batched),
        codec.scan(payloads, table),
        dims,
        [np.frombuffer(data, np.uint8) for data in outputs],
    )
    assert answers == write(plan, columns, specs, dims, outputs)


PLAN = RequestPlan(
    name="m",
    version=3,
    newest=True,
    inputs=(InputPlan("x", "FP32", 4, (2,)), InputPlan("y", "INT8", 1, (-1, 3))),
    outputs=("a", "b"),
    batched=True,
    rows_max=4,
)
TABLE = RequestTable([PLAN])


def plain(rows: int = 2, free: int = 5) -> ModelInferRequest:
    """A good request for PLAN."""
    request = ModelInferRequest(model_name="m", id="7")
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    request.inputs.add(name="y", datatype="INT8", shape=[rows, free, 3])
    request.raw_input_contents.extend((bytes(rows * 8), bytes(rows * free * 3)))
    return request


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
    request = plain()
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
    assert code(plain(rows, free).SerializeToString()) == expected


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
    wire = plain().SerializeToString()
    changed = WIRE_FAULTS[fault](wire)
    assert changed != wire
    assert code(wire) == 0
    assert code(changed) != 0


def test_every_truncation_falls_back() -> None:
    wire = plain().SerializeToString()
    codes = codec.scan([wire[:size] for size in range(len(wire))], TABLE)[:, codec.CODE]
    assert codes.all()


def test_an_empty_message_and_an_empty_table_fall_back() -> None:
    assert code(b"") == codec.FALLBACK_MODEL
    [row] = codec.scan([plain().SerializeToString()], RequestTable([]))
    assert row[codec.CODE] == codec.FALLBACK_MODEL
    assert codec.scan([], TABLE).shape == (0, TABLE.width)


def test_only_bytes_objects_are_scanned() -> None:
    wire = plain().SerializeToString()
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
        request = plain()
        request.model_name = plan.name
        request.model_version = "" if plan.newest and number % 4 == 1 else str(plan.version)
        requests.append(request.SerializeToString())
    fields = codec.scan(requests, RequestTable(plans))
    assert not fields[:, codec.CODE].any()
    assert fields[:, codec.PLAN].tolist() == list(range(1000))


def test_two_plans_for_one_name_and_version_are_refused() -> None:
    with pytest.raises(ValueError, match="two plans for model 'm', version ''"):
        RequestTable([PLAN, RequestPlan("m", 4, True, PLAN.inputs, (), True, 4)])


def test_a_summary_has_the_one_plan_of_all_requests_and_their_sums() -> None:
    other = RequestPlan("n", 1, True, PLAN.inputs, PLAN.outputs, batched=True, rows_max=4)
    table = RequestTable([other, PLAN])
    payloads = [plain(rows).SerializeToString() for rows in (1, 4, 2)]
    nbytes = 7 * (8 + 15)
    assert codec.summarize(codec.scan(payloads, table)) == (1, 7, nbytes)
    elsewhere = plain(rows=3)
    elsewhere.model_name = "n"
    mixed = codec.scan([*payloads, elsewhere.SerializeToString()], table)
    assert codec.summarize(mixed) == (-1, 10, nbytes + 3 * (8 + 15))
    fallen = codec.scan([*payloads, b""], table)
    assert codec.summarize(fallen) == (-1, 7, nbytes)


@pytest.mark.parametrize("free", [5, 400_000])
def test_gather_appends_the_contents_of_all_requests_input_by_input(free: int) -> None:
    random = Random(1)
    requests = []
    for rows in (1, 4, 2):
        request = plain(rows, free)
        request.raw_input_contents[:] = map(random.randbytes, (rows * 8, rows * free * 3))
        requests.append(request)
    payloads = [request.SerializeToString() for request in requests]
    fields = codec.scan(payloads, TABLE)
    destinations = [np.empty(7 * 8, np.uint8), np.empty(7 * free * 3, np.uint8)]
    codec.gather(fields, destinations)
    for k, destination in enumerate(destinations):
        expected = b"".join(request.raw_input_contents[k] for request in requests)
        assert destination.tobytes() == expected
    assert fields[:, codec.NBYTES].sum() == 7 * 8 + 7 * free * 3


def test_gather_never_writes_beyond_a_destination_that_is_too_small() -> None:
    payloads = [plain(rows=2).SerializeToString()]
    fields = codec.scan(payloads, TABLE)
    for size in (15, 17):
        backing = np.full(64, 9, np.uint8)
        with pytest.raises(ValueError, match=f"input 0: .* {size} bytes .* have 16"):
            codec.gather(fields, [backing[:size]])
        assert (backing[size:] == 9).all()
    with pytest.raises(ValueError, match="input 0"):
        codec.gather(fields, [np.empty(32, np.uint8)[::2]])
    with pytest.raises(ValueError, match="more than there are inputs"):
        codec.gather(fields, [np.empty(16, np.uint8)] * TABLE.width)


ANSWERS = AnswerTable("m", 3, [OutputPlan("a", "FP32", 4), OutputPlan("b", "INT8", 1)], True)


@pytest.mark.parametrize("size", [3, 600_000])
def test_long_and_short_batches_are_answered_alike(size: int) -> None:
    """600,000: beyond what is written in one piece while the GIL is held."""
    random = Random(2)
    payloads = [plain(rows).SerializeToString() for rows in (1, 3, 2)]
    outputs = [random.randbytes(6 * 4), random.randbytes(6 * size)]
    answers = codec.encode(
        ANSWERS,
        codec.scan(payloads, TABLE),
        [(), (size,)],
        [np.frombuffer(data, np.uint8) for data in outputs],
    )
    columns = [read(payload, [PLAN]) for payload in payloads]
    assert answers == write(PLAN, columns, ANSWERS.outputs, [(), (size,)], outputs)
    assert {type(answer) for answer in answers} == {bytes}


def test_encode_reads_nothing_unless_the_outputs_have_exactly_the_rows_of_the_requests() -> None:
    payloads = [plain(rows).SerializeToString() for rows in (1, 3)]
    fields = codec.scan(payloads, TABLE)
    good = [np.zeros(4 * 4, np.uint8), np.zeros(4 * 3, np.uint8)]
    assert len(codec.encode(ANSWERS, fields, [(), (3,)], good)) == 2
    for wrong in (good[1][:-1], np.zeros(13, np.uint8), good[1][:0]):
        with pytest.raises(ValueError, match=r"need \[16, 12\] bytes"):
            codec.encode(ANSWERS, fields, [(), (3,)], [good[0], wrong])
    with pytest.raises(ValueError, match="need"):
        codec.encode(ANSWERS, fields, [(), (0,)], good)
    with pytest.raises(ValueError, match="output 1 must be contiguous"):
        codec.encode(ANSWERS, fields, [(), (3,)], [good[0], np.zeros(24, np.uint8)[::2]])
    with pytest.raises(ValueError, match="expected 2 outputs, got 1"):
        codec.encode(ANSWERS, fields, [(), (3,)], good[:1])
    with pytest.raises(ValueError, match="dims of 2 outputs, got 1"):
        codec.encode(ANSWERS, fields, [()], good[:1])
    fields[0, codec.ROWS] = -1
    with pytest.raises(ValueError, match="need"):
        codec.encode(ANSWERS, fields, [(), (3,)], [good[0][:8], good[1][:6]])


def test_encode_refuses_answers_that_no_protobuf_message_can_hold() -> None:
    rows_max = 2**31 // 4
    table = AnswerTable("m", 3, [OutputPlan("a", "FP32", 4)], batched=True)
    fields = codec.scan([plain().SerializeToString()], TABLE)
    fields[0, codec.ROWS] = rows_max
    with pytest.raises(ValueError, match="2 GiB"):
        codec.encode(table, fields, [()], [np.zeros(0, np.uint8)])


def test_no_requests_have_no_answers() -> None:
    empty = np.zeros(0, np.uint8)
    assert codec.encode(ANSWERS, codec.scan([], TABLE), [(), (3,)], [empty, empty]) == []


def test_outputs_without_a_fixed_size_are_refused_by_the_answer_table() -> None:
    with pytest.raises(ValueError, match="BYTES"):
        AnswerTable("m", 1, [OutputPlan("a", "BYTES", 0)], batched=True)
    outputs = [OutputPlan(f"o{j}", "FP32", 4) for j in range(63)]
    assert AnswerTable("m", 1, outputs[:62], batched=True)
    with pytest.raises(ValueError, match="at most 62"):
        AnswerTable("m", 1, outputs, batched=True)


def test_any_number_of_shapes_is_answered_but_not_all_are_kept() -> None:
    table = AnswerTable("m", 3, [OutputPlan("a", "INT8", 1)], batched=True)
    payload = plain(rows=1).SerializeToString()
    fields = codec.scan([payload], TABLE)
    columns = [read(payload, [PLAN])]
    first = weakref.ref(table.layout([(0,)]))
    for size in range(300):
        output = bytes(size)
        got = codec.encode(table, fields, [(size,)], [np.frombuffer(output, np.uint8)])
        assert got == write(PLAN, columns, table.outputs, [(size,)], [output])
    assert first() is None
