"""Length buckets from requests to answers: who shares a batch, what the model sees, what is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from kedge.core.datatypes import DATATYPES
from kedge.core.errors import InvalidRequest, ModelFailed
from kedge.core.ports import BatchResult, Buffer, OnResult, OutputTensor
from kedge.core.settings import BatchLimits, ExecutionLimits, QueueLimits
from kedge.core.values import ModelRef, ModelSchema, ServedVersion, TensorSpec, VersionManifest
from pipeline.test_serve import Scene, request
from support.fakes import DoublingExecutor, served
from support.requests import values_of

Arrays = dict[str, NDArray[np.generic]]
Declared = Sequence[tuple[str, str, tuple[int, ...]]]


class ArrayExecutor:
    """Runs a function on the batch's arrays by name; `seen` has the inputs of every batch."""

    batches_free = 1

    def __init__(
        self, inputs: Declared, outputs: Declared, model: Callable[[Arrays], Arrays]
    ) -> None:
        self.inputs, self.outputs, self.model = inputs, outputs, model
        self.seen: list[Arrays] = []

    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]:
        # Never 0, so that padding which nobody wrote is seen.
        return [np.full(size, 0x3F, np.uint8) for size in nbytes]

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        arrays = {
            name: raw.view(DATATYPES[datatype].numpy).reshape(rows, *row)
            for (name, datatype, _), raw, row in zip(self.inputs, inputs, dims, strict=True)
        }
        self.seen.append(arrays)
        answers = self.model(arrays)
        tensors = []
        for name, datatype, _ in self.outputs:
            array = np.ascontiguousarray(answers[name].astype(DATATYPES[datatype].numpy))
            raw = array.reshape(-1).view(np.uint8)
            raw.setflags(write=False)
            tensors.append(OutputTensor(raw, array.shape))
        on_result(BatchResult(tensors, None, 1_000), True)

    def close(self) -> None: ...

    def served(self, *buckets: int, rows_max: int = 64) -> ServedVersion:
        def specs(declared: Declared) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(name, DATATYPES[kind], dims) for name, kind, dims in declared)

        manifest = VersionManifest(
            ModelRef("tokens", 1),
            "test",
            Path("none"),
            ModelSchema(specs(self.inputs), specs(self.outputs), batched=True, rows_max=rows_max),
            BatchLimits(rows_max=rows_max),
            QueueLimits(),
            b"",
            execution=ExecutionLimits(length_buckets=buckets),
        )
        return ServedVersion(manifest, self)


def message(arrays: Arrays, slow: bool = False, wanted: Sequence[str] = ()) -> bytes:
    """slow: with a parameter, which only the protobuf decoder reads."""
    names = {"int64": "INT64", "float32": "FP32", "uint8": "UINT8"}
    infer = pb.ModelInferRequest(model_name="tokens", id="me")
    for name, array in arrays.items():
        infer.inputs.add(name=name, datatype=names[array.dtype.name], shape=array.shape)
        infer.raw_input_contents.append(array.tobytes())
    if slow:
        infer.parameters["note"].string_param = "anything"
    for name in wanted:
        infer.outputs.add(name=name)
    return bytes(infer.SerializeToString())


def arrays_of(answer: bytes) -> Arrays:
    response = pb.ModelInferResponse.FromString(answer)
    assert response.id == "me"
    return {
        output.name: np.frombuffer(raw, DATATYPES[output.datatype].numpy).reshape(output.shape)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


# One input


def test_requests_of_different_lengths_share_a_batch_and_get_their_own_back() -> None:
    executor = DoublingExecutor()
    scene = Scene(served(executor, dims=(-1,), length_buckets=(2, 4)))
    scene.front.queue(
        {
            1: request(1, shape=(1, 1)),
            2: request(2, 3, shape=(1, 2)),
            3: request(4, 5, 6, shape=(1, 3)),
            4: request(7, 8, shape=(2, 1)),
            5: request(9, 1, 2, 3, shape=(1, 4)),
        }
    )
    scene.run()
    assert sorted(executor.batches) == [[1, 0, 2, 3, 7, 0, 8, 0], [4, 5, 6, 0, 9, 1, 2, 3]]
    answers = {call: values_of(answer) for call, answer in scene.front.answers.items()}
    assert answers == {1: [2], 2: [4, 6], 3: [8, 10, 12], 4: [14, 16], 5: [18, 2, 4, 6]}
    shapes = {
        call: list(pb.ModelInferResponse.FromString(answer).outputs[0].shape)
        for call, answer in scene.front.answers.items()
    }
    assert shapes == {1: [1, 1], 2: [1, 2], 3: [1, 3], 4: [2, 1], 5: [1, 4]}


def test_both_decoders_pad_alike_and_share_a_batch() -> None:
    executor = DoublingExecutor()
    scene = Scene(served(executor, dims=(-1,), length_buckets=(4,)))
    slow = request(2, 3, shape=(1, 2), parameters={"note": "anything"})
    scene.front.queue({1: request(1, shape=(1, 1)), 2: slow, 3: request(4, shape=(1, 1))})
    scene.run()
    (batch,) = executor.batches
    assert sorted(batch) == sorted([1, 0, 0, 0, 2, 3, 0, 0, 4, 0, 0, 0])
    assert values_of(scene.front.answers[2]) == [4, 6]


@pytest.mark.parametrize("slow", [False, True])
def test_longer_than_the_largest_bucket_is_refused_with_tensor_length_and_bucket(
    slow: bool,
) -> None:
    executor = DoublingExecutor()
    version = served(executor, dims=(-1,), length_buckets=(2, 4))
    scene = Scene(version)
    parameters = {"note": "x"} if slow else None
    scene.front.queue(
        {
            1: request(1, 2, 3, 4, shape=(1, 4)),
            2: request(1, 2, 3, 4, 5, shape=(1, 5), request_id="long", parameters=parameters),
            3: request(5, 6, 7, shape=(1, 3)),
        }
    )
    scene.run()
    assert set(scene.front.answers) == {1, 3}
    error = scene.front.errors[2]
    assert isinstance(error, InvalidRequest)
    assert str(error) == (
        "[request id: long] input 'x': expected a length of at most 4, the largest of "
        "serving.batching.length_buckets, got 5"
    )
    assert version.statistics.refused == {"invalid_request": 1}


def test_a_length_of_zero_is_padded_too() -> None:
    executor = DoublingExecutor()
    scene = Scene(served(executor, dims=(-1,), length_buckets=(2,)))
    scene.front.queue({1: request(shape=(1, 0)), 2: request(3, shape=(1, 1))})
    scene.run()
    assert executor.batches == [[0, 0, 3, 0]]
    assert values_of(scene.front.answers[1]) == []


def test_a_batch_that_fails_runs_its_padded_requests_one_by_one() -> None:
    executor = DoublingExecutor()
    executor.refuse = lambda values: ModelFailed("poison") if 13 in values else None
    scene = Scene(served(executor, dims=(-1,), length_buckets=(4,)))
    lengths = {1: [1.0], 2: [13.0, 2], 3: [3.0, 4, 5], 4: [6.0]}
    scene.front.queue({call: request(*v, shape=(1, len(v))) for call, v in lengths.items()})
    scene.run()
    answers = {call: values_of(answer) for call, answer in scene.front.answers.items()}
    assert answers == {1: [2], 3: [6, 8, 10], 4: [12]}
    assert list(scene.front.errors) == [2]


def test_versions_with_and_without_buckets_share_a_drain() -> None:
    plain, padded = DoublingExecutor(), DoublingExecutor()
    scene = Scene(
        served(plain, name="plain", dims=(-1,)),
        served(padded, name="padded", dims=(-1,), length_buckets=(4,)),
    )
    scene.front.queue(
        {
            1: request(1, model="plain", shape=(1, 1)),
            2: request(2, model="padded", shape=(1, 1)),
            3: request(3, 4, model="padded", shape=(1, 2)),
            4: request(1, 2, 3, 4, 5, model="plain", shape=(1, 5)),
            5: request(1, 2, 3, 4, 5, model="padded", shape=(1, 5)),
        }
    )
    scene.run()
    assert plain.batches == [[1], [1, 2, 3, 4, 5]]
    assert padded.batches == [[2, 0, 0, 0, 3, 4, 0, 0]]
    assert list(scene.front.errors) == [5]


def test_the_queue_counts_a_requests_own_bytes() -> None:
    executor = DoublingExecutor(is_held=True)
    version = served(executor, dims=(-1,), length_buckets=(100,), queue=QueueLimits(bytes_max=8))
    scene = Scene(version)
    scene.front.queue({0: request(1, shape=(1, 1))})
    scene.then(lambda: scene.front.queue({1: request(1, 2, shape=(1, 2)), 2: request(3)}))
    scene.then(executor.release)
    scene.then(executor.release)
    scene.run()
    assert set(scene.front.answers) == {0, 1}


# Several tensors


IDS_AND_MASK = (("ids", "INT64", (-1,)), ("mask", "UINT8", (-1,)), ("bias", "FP32", (2,)))
TOKENS_AND_POOLED = (
    ("tokens", "FP32", (-1, 3)), ("pooled", "FP32", ()), ("pairs", "INT64", (-1, -1)),
)  # fmt: skip


def encoder(arrays: Arrays) -> Arrays:
    """A model that never looks at another row, nor at what the mask hides."""
    ids = arrays["ids"].astype(np.int64) * arrays["mask"].astype(np.int64)
    bias = arrays["bias"].astype(np.float32)
    tokens = ids[:, :, None] * np.array([1, 2, 3]) + bias.sum(1)[:, None, None]
    pairs = ids[:, :, None] + 10 * ids[:, None, :]
    return {"tokens": tokens, "pooled": ids.sum(1) + bias[:, 1], "pairs": pairs}


def sentence(rows: int, length: int, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        "ids": random.integers(1, 100, (rows, length)),
        "mask": np.ones((rows, length), np.uint8),
        "bias": random.integers(0, 9, (rows, 2)).astype(np.float32),
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 9), st.booleans(), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_every_answer_is_that_of_the_request_alone_and_unpadded(
    drawn: list[tuple[int, int, bool, bool]],
) -> None:
    executor = ArrayExecutor(IDS_AND_MASK, TOKENS_AND_POOLED, encoder)
    scene = Scene(executor.served(3, 4, 9))
    requests = {i: sentence(rows, length, i) for i, (rows, length, _, _) in enumerate(drawn)}
    wanted = {i: ("pooled",) if few else () for i, (_, _, _, few) in enumerate(drawn)}
    scene.front.queue(
        {i: message(requests[i], drawn[i][2], wanted[i]) for i in requests}  # type: ignore[arg-type]
    )
    scene.run()
    assert scene.front.errors == {}
    for call, arrays in requests.items():
        expected = encoder(arrays)
        got = arrays_of(scene.front.answers[call])
        assert list(got) == list(wanted[call] or expected)
        for name, array in got.items():
            np.testing.assert_array_equal(array, expected[name])
            assert array.shape == expected[name].shape
    padded = {min(b for b in (3, 4, 9) if b >= length) for _, length, _, _ in drawn}
    assert {batch["ids"].shape[1] for batch in executor.seen} == padded
    assert len(executor.seen) == len(padded)


def test_what_is_beyond_a_requests_own_length_is_zero_for_the_model() -> None:
    executor = ArrayExecutor(IDS_AND_MASK, TOKENS_AND_POOLED, encoder)
    scene = Scene(executor.served(4))
    scene.front.queue({1: message(sentence(1, 3, 1)), 2: message(sentence(2, 1, 2))})
    scene.run()
    (batch,) = executor.seen
    assert batch["mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert ((batch["ids"] != 0) == (batch["mask"] != 0)).all()


@pytest.mark.parametrize("slow", [False, True])
def test_inputs_of_unequal_lengths_are_refused_where_an_output_has_their_length(
    slow: bool,
) -> None:
    executor = ArrayExecutor(IDS_AND_MASK, TOKENS_AND_POOLED, encoder)
    scene = Scene(executor.served(4))
    arrays = sentence(1, 3, 1)
    arrays["mask"] = np.ones((1, 2), np.uint8)
    scene.front.queue({1: message(arrays, slow), 2: message(sentence(1, 3, 2))})
    scene.run()
    assert list(scene.front.answers) == [2]
    assert str(scene.front.errors[1]) == (
        "[request id: me] input 'mask': expected length 3 as of the inputs before it, got 2; an "
        "output has the length of all"
    )


def test_without_free_outputs_each_length_is_rounded_up_by_itself() -> None:
    inputs = (("a", "INT64", (-1,)), ("b", "INT64", (-1, 2, -1)))
    executor = ArrayExecutor(
        inputs,
        (("sum", "INT64", ()),),
        lambda arrays: {"sum": arrays["a"].sum(1) + arrays["b"].sum((1, 2, 3))},  # type: ignore[call-overload]
    )
    scene = Scene(executor.served(2, 4))
    requests = {
        1: {"a": np.ones((1, 1), np.int64), "b": np.ones((1, 3, 2, 2), np.int64)},
        2: {"a": np.ones((2, 2), np.int64), "b": np.ones((2, 4, 2, 1), np.int64)},
        3: {"a": np.ones((1, 3), np.int64), "b": np.ones((1, 4, 2, 1), np.int64)},
    }
    scene.front.queue({call: message(arrays) for call, arrays in requests.items()})  # type: ignore[arg-type]
    scene.run()
    shapes = [(batch["a"].shape, batch["b"].shape) for batch in executor.seen]
    assert sorted(shapes) == [((1, 4), (1, 4, 2, 2)), ((3, 2), (3, 4, 2, 2))]
    sums = {c: arrays_of(a)["sum"].tolist() for c, a in scene.front.answers.items()}
    assert sums == {1: [1 + 12], 2: [2 + 8, 2 + 8], 3: [3 + 8]}


def test_an_output_of_another_length_fails_with_its_name() -> None:
    def broken(arrays: Arrays) -> Arrays:
        answers = encoder(arrays)
        return {**answers, "tokens": answers["tokens"][:, :-1]}

    executor = ArrayExecutor(IDS_AND_MASK, TOKENS_AND_POOLED, broken)
    version = executor.served(4)
    scene = Scene(version)
    scene.front.queue({1: message(sentence(1, 3, 1)), 2: message(sentence(1, 4, 2))})
    scene.run()
    assert scene.front.answers == {}
    for error in scene.front.errors.values():
        assert isinstance(error, ModelFailed)
        assert str(error).startswith("output 'tokens': expected size 4 where its shape is free")
    assert version.statistics.failures == {"BACKEND": 2}


def test_limits_with_buckets_out_of_order_are_a_mistake_of_ours() -> None:
    limits = ExecutionLimits(length_buckets=(1, 2))
    for wrong in ((2, 1), (1, 1), (0, 1)):
        with pytest.raises(ValueError, match="length_buckets must be ascending"):
            replace(limits, length_buckets=wrong)
