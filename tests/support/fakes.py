"""Stand-ins that a test moves by hand: a clock, a front, executors that answer when told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from kedge.core.datatypes import DATATYPES
from kedge.core.errors import ServeError
from kedge.core.ports import BatchResult, Buffer, Call, Drain, LocalWay, OnResult, OutputTensor
from kedge.core.settings import BatchLimits, ExecutionLimits, QueueLimits
from kedge.core.values import (
    Catalog,
    ModelRef,
    ModelSchema,
    ServedVersion,
    TensorSpec,
    VersionManifest,
)


class FakeClock:
    """Time stands still until a test moves it."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def wall_ms(self) -> int:
        return self.ns // 1_000_000

    def advance_us(self, us: int) -> None:
        self.ns += us * 1_000


class FakeFront:
    """A front without a socket: delivers what a test queued, keeps what was answered by call id."""

    port = 0
    local = LocalWay("", "")

    def __init__(self) -> None:
        self.drains: list[Drain] = []
        self.answers: dict[int, bytes] = {}
        self.errors: dict[int, ServeError] = {}
        self.on_idle: Callable[[int], None] = lambda timeout_ms: None

    def start(self) -> None: ...
    def close(self) -> None: ...

    def queue(
        self,
        requests: dict[int, bytes] | None = None,
        calls: Sequence[Call] = (),
        cancelled: Sequence[int] = (),
    ) -> None:
        requests = requests or {}
        self.drains.append(
            Drain(list(requests), list(requests.values()), list(calls), list(cancelled))
        )

    def receive(self, events_max: int, timeout_ms: int) -> Drain | None:
        if self.drains:
            return self.drains.pop(0)
        self.on_idle(timeout_ms)
        return Drain([], [], [], [])

    def respond(self, call_id: int, payload: bytes) -> bool:
        assert call_id not in self.answers, "answered twice"
        assert call_id not in self.errors, "answered after it failed"
        self.answers[call_id] = bytes(payload)
        return True

    def fail(self, call_id: int, error: ServeError) -> bool:
        assert call_id not in self.answers, "failed after it was answered"
        assert call_id not in self.errors, "failed twice"
        self.errors[call_id] = error
        return True


class DoublingExecutor:
    """Answers twice its only FP32 input. With `is_held` it keeps batches until `release`.

    `batches`: the rows of every batch that ran, in order. `refuse`: given a batch's values, the
    error to answer, or None.
    """

    def __init__(self, is_held: bool = False) -> None:
        self.is_held = is_held
        self.batches: list[list[float]] = []
        self.held: list[Callable[[], None]] = []
        self.refuse: Callable[[Sequence[float]], ServeError | None] = lambda values: None

    @property
    def batches_free(self) -> int:
        return 0 if self.held else 1

    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]:
        assert nbytes[0] == 4 * rows * prod(dims[0])
        return [np.empty(size, dtype=np.uint8) for size in nbytes]

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        values = inputs[0].view(np.float32)
        self.batches.append(values.tolist())
        error = self.refuse(values.tolist())
        doubled = (2 * values).view(np.uint8)
        outputs = () if error else (OutputTensor(doubled, (rows, *dims[0])),)
        result = BatchResult(outputs, error, 1_000)
        if self.is_held:
            self.held.append(lambda: on_result(result, True))
        else:
            on_result(result, True)

    def release(self) -> None:
        self.held.pop(0)()

    def close(self) -> None: ...


def served(
    executor: DoublingExecutor,
    name: str = "double",
    version: int = 1,
    dims: tuple[int, ...] = (1,),
    batch: BatchLimits | None = None,
    queue: QueueLimits | None = None,
    length_buckets: tuple[int, ...] = (),
) -> ServedVersion:
    """A version with one FP32 input `x` and one FP32 output `y` of per-row dimensions `dims`."""
    batch = batch or BatchLimits(rows_max=8)
    schema = ModelSchema(
        (TensorSpec("x", DATATYPES["FP32"], dims),),
        (TensorSpec("y", DATATYPES["FP32"], dims),),
        batched=True,
        rows_max=batch.rows_max,
    )
    manifest = VersionManifest(
        ModelRef(name, version),
        "test",
        Path("none"),
        schema,
        batch,
        queue or QueueLimits(),
        b"",
        execution=ExecutionLimits(length_buckets=length_buckets),
    )
    return ServedVersion(manifest, executor)


def catalog_of(*versions: ServedVersion) -> Catalog:
    models: dict[str, dict[int, ServedVersion]] = {}
    for version in versions:
        models.setdefault(version.ref.name, {})[version.ref.version] = version
    return Catalog(models)
