from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb

from kedge.client import samples
from kedge.client.metadata import ModelMetadata, Tensor
from kedge.client.samples import random_requests
from kedge.core.datatypes import DATATYPES


def metadata(*shapes: tuple[int, ...]) -> ModelMetadata:
    inputs = tuple(
        Tensor(f"{datatype.name}-{i}", datatype, shape)
        for datatype in DATATYPES.values()
        for i, shape in enumerate(shapes)
    )
    return ModelMetadata("m", ("1",), "test", inputs, ())


def test_every_datatype_gets_data_of_its_size_and_open_sizes_are_1() -> None:
    (raw,) = random_requests(metadata((-1,), (-1, 2, -1), (3, 2), ()), "7", 5, 1, seed=0)
    request = pb.ModelInferRequest.FromString(raw)
    assert (request.model_name, request.model_version) == ("m", "7")
    shapes = [list(tensor.shape) for tensor in request.inputs]
    assert shapes == [[5], [5, 2, 1], [3, 2], []] * len(DATATYPES)
    for tensor, contents in zip(request.inputs, request.raw_input_contents, strict=True):
        elements = {1: 5, 3: 10, 2: 6, 0: 1}[len(tensor.shape)]
        item_bytes = DATATYPES[tensor.datatype].item_bytes or 4 + samples.TEXT_CHARS
        assert len(contents) == elements * item_bytes


def test_requests_differ_and_are_the_same_for_the_same_seed() -> None:
    one = random_requests(metadata((-1, 4)), "", 1, 50, seed=1)
    assert len(set(one)) == 50
    assert one == random_requests(metadata((-1, 4)), "", 1, 50, seed=1)
    assert one != random_requests(metadata((-1, 4)), "", 1, 50, seed=2)


@pytest.mark.parametrize(("pool_bytes", "requests"), [(1, 1), (10**9, 3)])
def test_large_requests_are_fewer(
    monkeypatch: pytest.MonkeyPatch, pool_bytes: int, requests: int
) -> None:
    monkeypatch.setattr(samples, "POOL_BYTES_MAX", pool_bytes)
    assert len(random_requests(metadata((-1,)), "", 1, 3, seed=0)) == requests
