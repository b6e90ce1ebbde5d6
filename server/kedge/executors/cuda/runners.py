"""The two ways to run a batch on the compute stream: a CUDA graph, or the model itself.

A graph takes one launch for the whole model, but only for shapes that it was captured with, on
memory that never moves.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from kedge.executors.cuda.buckets import bucket_for, buckets_of
from kedge.executors.cuda.buffers import Prefixes, Slot, flat
from kedge.executors.cuda.device import Device, Graph, Stream
from kedge.executors.cuda.program import Dims, Inputs, Model

# TorchScript specializes a graph in its first two runs, cuDNN tries its algorithms in the first.
WARMUP_RUNS = 3


class Computed(NamedTuple):
    """One output of a batch on the device: its raw bytes, padding left out, and its shape."""

    raw: torch.Tensor
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.raw.numel()


class Runner(Protocol):
    """Gives a batch, whose inputs are in `slot.device_in`, to the compute stream, which is the
    thread's current one.
    """

    def device_bytes(self, rows: int, row_bytes: int) -> int:
        """How many bytes of `slot.device_in` it uses for an input of `rows` rows."""
        ...

    def compute(self, slot: Slot, rows: int, dims: Dims) -> list[Computed]: ...


class Bucket(NamedTuple):
    """One captured graph. outputs: written by its replay. output_dims, output_row_bytes: of one
    row of each.
    """

    graph: Graph
    outputs: list[Prefixes]
    output_dims: list[tuple[int, ...]]
    output_row_bytes: list[int]


class GraphRunner:
    """One CUDA graph per bucket, all on the same static inputs, captured by the constructor.

    Every batch is copied into the static inputs and its outputs out of the static ones, both on the
    compute stream: so one graph per bucket is enough for several batches in flight, and costs two
    copies at the speed of device memory. Padding rows are zeroed: left as they are they would hold
    other callers' rows, which a model that looks across rows (dynamic quantization, expert
    capacity) would let into the answer. Raises RuntimeError when the model cannot be captured.
    """

    def __init__(self, device: Device, stream: Stream, model: Model) -> None:
        schema = model.manifest.schema
        self._device = device
        self._buckets = buckets = buckets_of(schema, model.manifest.execution)
        self._batched = schema.batched
        self._inputs = Inputs(schema)
        self._row_bytes = self._inputs.fixed_row_bytes
        self._static = [
            Prefixes(device.buffer(max(1, buckets[-1] * size))) for size in self._row_bytes
        ]
        device.synchronize()
        # The largest first: the smaller ones then find room in the memory that it has freed.
        self._captured = {rows: self._capture(rows, stream, model) for rows in reversed(buckets)}

    def _capture(self, rows: int, stream: Stream, model: Model) -> Bucket:
        device = self._device
        program = model.program(rows)
        raw = [
            static.first(rows * size)
            for static, size in zip(self._static, self._row_bytes, strict=True)
        ]
        inputs = self._inputs.typed(rows, self._inputs.fixed_dims, raw)
        device.use(stream)
        for _ in range(WARMUP_RUNS):
            device.run(program, inputs)
        device.synchronize()
        graph, captured = device.capture(program, inputs, stream)
        device.use(stream)
        # The first replay uploads the graph to the device, and shows whether it runs at all.
        graph.replay()
        device.synchronize()
        return Bucket(
            graph,
            [Prefixes(flat(tensor)) for tensor in captured],
            [tuple(tensor.shape[1:] if self._batched else tensor.shape) for tensor in captured],
            [tensor.numel() * tensor.element_size() // rows for tensor in captured],
        )

    def device_bytes(self, rows: int, row_bytes: int) -> int:
        return rows * row_bytes

    def compute(self, slot: Slot, rows: int, dims: Dims) -> list[Computed]:
        copy = self._device.copy
        bucket_rows = bucket_for(rows, self._buckets)
        bucket = self._captured[bucket_rows]
        for index, (static, size) in enumerate(zip(self._static, self._row_bytes, strict=True)):
            if size == 0:
                continue
            copy(static.first(rows * size), slot.device_in.first(index, rows * size))
            if rows < bucket_rows:
                self._device.zero(static.whole[rows * size : bucket_rows * size])
        bucket.graph.replay()
        computed = []
        batch_dims = (rows,) if self._batched else ()
        for index, size in enumerate(bucket.output_row_bytes):
            raw = slot.device_out.first(index, rows * size)
            if size > 0:
                copy(raw, bucket.outputs[index].first(rows * size))
            computed.append(Computed(raw, (*batch_dims, *bucket.output_dims[index])))
        return computed


class PlainRunner:
    """The model itself, launched kernel by kernel, on the batch's own memory: for free dimensions,
    and for models that cannot be captured.

    Pads only to buckets that were asked for, with zeros.
    """

    def __init__(self, device: Device, model: Model) -> None:
        schema, execution = model.manifest.schema, model.manifest.execution
        self._device = device
        self._batched = schema.batched
        self._inputs = Inputs(schema)
        self._model = model
        pads = execution.deterministic or bool(execution.batch_buckets)
        self._buckets = buckets_of(schema, execution) if pads and schema.batched else ()

    def _padded(self, rows: int) -> int:
        return bucket_for(rows, self._buckets) if self._buckets else rows

    def device_bytes(self, rows: int, row_bytes: int) -> int:
        return self._padded(rows) * row_bytes

    def compute(self, slot: Slot, rows: int, dims: Dims) -> list[Computed]:
        padded = self._padded(rows)
        raw = []
        for index, size in enumerate(self._inputs.row_bytes(dims)):
            whole = slot.device_in.first(index, padded * size)
            if padded > rows:
                self._device.zero(whole[rows * size :])
            raw.append(whole)
        inputs = self._inputs.typed(padded, dims, raw)
        answer = self._device.run(self._model.program(padded), inputs)
        return [self._computed(tensor, rows, padded) for tensor in answer]

    def _computed(self, tensor: torch.Tensor, rows: int, padded: int) -> Computed:
        shape = (rows, *tensor.shape[1:]) if self._batched else tuple(tensor.shape)
        raw = flat(tensor)
        return Computed(raw if padded == rows else raw[: raw.numel() // padded * rows], shape)
