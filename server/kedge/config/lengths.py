"""`serving.batching.length_buckets` against the tensors: what padding means must be certain."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

from kedge.config.document import Location
from kedge.config.endpoint import DIM_MAX, EndpointFile, Tensor
from kedge.core.datatypes import DATATYPES

AT: Location = ("serving", "batching", "length_buckets")


def length_problems(endpoint: EndpointFile) -> Iterator[tuple[Location, str]]:
    """Why these tensors cannot be padded to these lengths."""
    buckets = endpoint.serving.batching.length_buckets
    if not buckets:
        return
    for i, (smaller, larger) in enumerate(pairwise(buckets), 1):
        if larger <= smaller:
            yield (*AT, i), f"expected lengths in ascending order, got {larger} after {smaller}"
    if endpoint.serving.batching.max_batch_size == 0 or not endpoint.inputs[0].shape:
        yield AT, "needs a batch dimension: without one every request runs alone"
        return
    yield from _tensor_problems(endpoint, max(buckets))
    if not any(map(_free, endpoint.inputs)):
        yield AT, "no input has a dimension of any size (-1) beside the batch: leave it out"
    if any(map(_free, endpoint.outputs)):
        for i, tensor in enumerate(endpoint.inputs):
            if _free(tensor) > 1:
                yield (
                    ("inputs", i, "shape"),
                    "expected at most one dimension of any size (-1) beside the batch: an output "
                    "has one too, and with length_buckets that is the request's one length",
                )


def _tensor_problems(endpoint: EndpointFile, largest: int) -> Iterator[tuple[Location, str]]:
    for side, tensors in (("inputs", endpoint.inputs), ("outputs", endpoint.outputs)):
        for i, tensor in enumerate(tensors):
            if not DATATYPES[tensor.datatype].is_fixed_size:
                message = f"{tensor.datatype} cannot be padded: length_buckets needs other tensors"
                yield (side, i, "datatype"), message
            elements = prod(largest if dim < 0 else dim for dim in tensor.shape[1:])
            if elements > DIM_MAX:
                message = f"more than {DIM_MAX} elements in one row of the largest length bucket"
                yield (side, i, "shape"), message


def _free(tensor: Tensor) -> int:
    """How many dimensions beside the batch are of any size."""
    return tensor.shape[1:].count(-1)
