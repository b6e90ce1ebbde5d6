"""Batches and answers against the slow twin, which writes with tritonclient's messages."""

from __future__ import annotations

import weakref
from math import prod
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge_kernels import codec
from kedge_kernels.codec import AnswerTable, OutputPlan, RequestPlan, RequestTable
from support.codec_messages import PLAN, plain_request, random_plans, random_request
from support.reference_codec import read, write

randoms = st.randoms(use_true_random=False)
TABLE = RequestTable([PLAN])
ANSWERS = AnswerTable("m", 3, [OutputPlan("a", "FP32", 4), OutputPlan("b", "INT8", 1)], True)


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


def test_a_summary_has_the_one_plan_of_all_requests_and_their_sums() -> None:
    other = RequestPlan("n", 1, True, PLAN.inputs, PLAN.outputs, batched=True, rows_max=4)
    table = RequestTable([other, PLAN])
    payloads = [plain_request(rows).SerializeToString() for rows in (1, 4, 2)]
    nbytes = 7 * (8 + 15)
    assert codec.summarize(codec.scan(payloads, table)) == (1, 7, nbytes)
    elsewhere = plain_request(rows=3)
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
        request = plain_request(rows, free)
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
    payloads = [plain_request(rows=2).SerializeToString()]
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


@pytest.mark.parametrize("size", [3, 600_000])
def test_long_and_short_batches_are_answered_alike(size: int) -> None:
    """600,000: beyond what is written in one piece while the GIL is held."""
    random = Random(2)
    payloads = [plain_request(rows).SerializeToString() for rows in (1, 3, 2)]
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
    payloads = [plain_request(rows).SerializeToString() for rows in (1, 3)]
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
    fields = codec.scan([plain_request().SerializeToString()], TABLE)
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
    payload = plain_request(rows=1).SerializeToString()
    fields = codec.scan([payload], TABLE)
    columns = [read(payload, [PLAN])]
    first = weakref.ref(table.layout([(0,)]))
    for size in range(300):
        output = bytes(size)
        got = codec.encode(table, fields, [(size,)], [np.frombuffer(output, np.uint8)])
        assert got == write(PLAN, columns, table.outputs, [(size,)], [output])
    assert first() is None
