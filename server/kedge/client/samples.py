"""Random requests that fit a model's declared inputs, for load without data of one's own."""

from __future__ import annotations

import numpy as np

from kedge.client.connection import infer_request
from kedge.client.metadata import ModelMetadata, Tensor
from kedge.client.tensors import Array

# Text of this length is what keys and categories have.
TEXT_CHARS = 8
# Small enough to be an index into any table that a model may have.
INTEGER_END = 4
# Of all requests together; large inputs make fewer of them.
POOL_BYTES_MAX = 64 * 1024 * 1024


def random_requests(
    metadata: ModelMetadata, version: str, rows: int, requests: int, seed: int
) -> list[bytes]:
    """`requests` different serialized requests of `rows` rows each; the same for the same seed.

    Fewer if they are large, one at least. Sizes that the model leaves open, the batch apart, are 1.
    Rows differ, because repeated ones train the branch predictor: a model then looks up to four
    times faster than it is.
    """
    generator = np.random.default_rng(seed)
    messages: list[bytes] = []
    pool_bytes = 0
    while len(messages) < requests and pool_bytes < POOL_BYTES_MAX:
        inputs = {tensor.name: _random(tensor, rows, generator) for tensor in metadata.inputs}
        message = infer_request(metadata, inputs)
        message.model_version = version
        messages.append(message.SerializeToString())
        pool_bytes += len(messages[-1])
    return messages


def _random(tensor: Tensor, rows: int, generator: np.random.Generator) -> Array:
    shape = tuple(max(size, 1) for size in tensor.shape)
    if tensor.shape[:1] == (-1,):
        shape = (rows, *shape[1:])
    match tensor.datatype.name:
        case "BYTES":
            letters = generator.integers(ord("a"), ord("z") + 1, (*shape, TEXT_CHARS), np.uint8)
            return letters.view(f"S{TEXT_CHARS}")[..., 0]
        case "BOOL":
            return generator.random(shape) < 0.5
        case "BF16":
            return generator.standard_normal(shape, np.float32)
        case _ if tensor.datatype.numpy.kind == "f":
            return generator.standard_normal(shape).astype(tensor.datatype.numpy)
        case _:
            return generator.integers(0, INTEGER_END, shape).astype(tensor.datatype.numpy)
