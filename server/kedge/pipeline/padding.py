"""Length buckets: requests of different lengths run together, padded with zeros. Pure.

A *free* dimension is one declared as -1 beside the batch. In the inputs of a request each free
dimension is rounded up by itself to the smallest bucket that holds it, and what is beyond the
request's own contents is 0. Requests whose rounded shapes are the same share a batch.

A free dimension of an *output* is the request's length: every free dimension of the request's
inputs must then have the same size, the model must answer with the size that this was rounded up
to, and what is beyond the request's own length is cut off. Outputs without free dimensions are
left as they are. Batches never depend on what a request's neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.core.errors import InvalidRequest, ModelFailed
from kedge.core.ports import Buffer, OutputTensor
from kedge.core.values import ModelSchema
from kedge.pipeline.blocks import Dims, split_dims
from kedge_kernels import lengths
from kedge_kernels.codec import INPUTS, AnswerTable, encode


class Padding:
    """What a lane does with lengths.

    Of batched models whose tensors all have datatypes of fixed size, at least one input dimension
    is free, and which have at most one per input if an output has one (`config/lengths.py`). In the
    `fields` of such a lane the requests' own sizes, of all inputs one behind another, begin at
    `sizes_start`; there are `sizes` of them.
    """

    def __init__(self, schema: ModelSchema, buckets: Sequence[int]) -> None:
        self._schema = schema
        self._bucket_list = list(buckets)
        self._buckets = np.array(buckets, np.int64)
        self._free = np.array([dim < 0 for spec in schema.inputs for dim in spec.dims], np.bool_)
        self._first_free = int(self._free.argmax())
        self._cuts = any(not spec.has_fixed_dims for spec in schema.outputs)
        self._input_items = [spec.datatype.item_bytes for spec in schema.inputs]
        self.sizes_start = INPUTS + 2 * len(schema.inputs)
        self.sizes = len(self._free)

    def round_up(self, sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Padded sizes of requests, int64[n, sizes], and how many are refused; these have -1 in
        every column, and `check` says why.
        """
        return lengths.round_up(sizes, self._free, self._buckets, self._cuts)

    def check(self, dims: Dims) -> Dims:
        """The padded dimensions of one request. Raises InvalidRequest with tensor and length."""
        sizes = [size for row in dims for size in row]
        padded, refused = self.round_up(np.array([sizes], np.int64))
        if not refused:
            return split_dims(self._schema.inputs, padded[0])
        largest = self._bucket_list[-1]
        first = sizes[self._first_free]
        for spec, row in zip(self._schema.inputs, dims, strict=True):
            for dim, size in zip(spec.dims, row, strict=True):
                if dim < 0 and size > largest:
                    raise InvalidRequest(
                        f"input '{spec.name}': expected a length of at most {largest}, the largest "
                        f"of serving.batching.length_buckets, got {size}"
                    )
                if dim < 0 and self._cuts and size != first:
                    raise InvalidRequest(
                        f"input '{spec.name}': expected length {first} as of the inputs before it, "
                        f"got {size}; an output has the length of all"
                    )
        raise AssertionError("refused without a reason")

    def gather(self, fields: NDArray[np.int64], dims: Dims, inputs: Sequence[Buffer]) -> None:
        """Fill the executor's buffers with the padded contents of all requests."""
        lengths.gather_padded(fields, self.sizes_start, dims, self._input_items, inputs)

    def encode(
        self, table: AnswerTable, fields: NDArray[np.int64], outputs: Sequence[OutputTensor]
    ) -> list[bytes]:
        """One answer per request, with outputs of its own length.

        Raises ModelFailed if a free dimension of an output is not the padded length.
        """
        dims = [output.shape[1:] for output in outputs]
        data = [output.data for output in outputs]
        if not self._cuts:
            return encode(table, fields, dims, data)
        own = fields[:, self.sizes_start + self._first_free]
        distinct = set(own.tolist())
        padded = next(bucket for bucket in self._bucket_list if bucket >= max(distinct))
        self._check_outputs(dims, padded)
        if distinct == {padded}:
            return encode(table, fields, dims, data)
        answers: list[bytes] = [b""] * len(fields)
        for length in distinct:
            chosen = own == length
            cut_dims = [
                tuple(length if dim < 0 else size for dim, size in zip(spec.dims, row, strict=True))
                for spec, row in zip(self._schema.outputs, dims, strict=True)
            ]
            cut_data = [
                lengths.cut(fields, chosen, whole, row, cut_row, spec.datatype.item_bytes)
                for spec, whole, row, cut_row in zip(
                    self._schema.outputs, data, dims, cut_dims, strict=True
                )
            ]
            of_length = encode(table, fields[chosen], cut_dims, cut_data)
            for index, answer in zip(np.flatnonzero(chosen).tolist(), of_length, strict=True):
                answers[index] = answer
        return answers

    def _check_outputs(self, dims: Sequence[tuple[int, ...]], padded: int) -> None:
        for spec, row in zip(self._schema.outputs, dims, strict=True):
            for dim, size in zip(spec.dims, row, strict=True):
                if dim < 0 and size != padded:
                    raise ModelFailed(
                        f"output '{spec.name}': expected size {padded} where its shape is free, "
                        f"the padded length of the inputs (length_buckets), got {size}"
                    )
