"""Where the parts meet: Protocols of one to a few methods, joined in `app.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kedge.core.errors import ServeError, Status
from kedge.core.values import Catalog, IndexEntry

Buffer = NDArray[np.uint8]


class Call(NamedTuple):
    """One event of a front. `payload` None: the call `call_id` was cancelled, passed its deadline
    or its client is gone; nothing needs to be answered. peer: `ipv4:1.2.3.4:5` or `unix:...`, "" if
    unknown; authorization: that header's value, b"" if absent.
    """

    call_id: int
    method: int
    payload: bytes | None
    peer: str
    authorization: bytes


class Front(Protocol):
    """A gRPC listener: raw bytes in and out, calls by id. `respond` and `fail` may be called from
    any thread, and return False when nobody waits for the answer any more.
    """

    @property
    def port(self) -> int: ...
    def start(self) -> None: ...
    def receive(self, calls_max: int, timeout_ms: int) -> list[Call] | None: ...
    def respond(self, call_id: int, payload: bytes | bytearray) -> bool: ...
    def fail(self, call_id: int, status: Status, message: str) -> bool: ...
    def close(self) -> None: ...


class OutputTensor(NamedTuple):
    """One output of a batch. data: C-contiguous raw bytes of all rows; for BYTES the
    length-prefixed elements. shape: whole, with the batch dimension if the model has one. row_ends:
    for BYTES, where each row's bytes end; None for fixed-size datatypes, whose rows are equally
    long.
    """

    data: Buffer
    shape: tuple[int, ...]
    row_ends: NDArray[np.int64] | None = None


class BatchResult(NamedTuple):
    """What an executor answers for one batch: outputs in the schema's order, or the error that
    every request of the batch gets. infer_ns: the model's own time.
    """

    outputs: Sequence[OutputTensor]
    error: ServeError | None
    infer_ns: int


OnResult = Callable[[BatchResult, bool], None]


class Executor(Protocol):
    """What runs a version's batches; completion-based, so that processes, devices and streams fit.

    `allocate(rows, dims, nbytes)` lends one writable byte buffer per input, for a batch of `rows`
    rows whose inputs have the per-row dimensions `dims` and `nbytes` raw bytes each; the caller
    fills them and passes the same ones to `submit`, which takes them over. `on_result(result,
    final)` is called once per answer of the batch, from any thread, possibly before `submit`
    returns; `final` is True on the last. `batches_free` is how many more batches may be submitted
    now; the queue keeps the rest.
    """

    @property
    def batches_free(self) -> int: ...
    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]: ...
    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None: ...
    def close(self) -> None: ...


class ModelControl(Protocol):
    """The registry as control sees it. `load` and `unload` return at once and call `on_done(error
    or None)` when finished, from any thread. `index` has one entry per version.
    """

    @property
    def catalog(self) -> Catalog: ...
    @property
    def ready(self) -> bool: ...
    def index(self) -> Sequence[IndexEntry]: ...
    def load(
        self,
        name: str,
        parameters: Mapping[str, object],
        on_done: Callable[[ServeError | None], None],
    ) -> None: ...
    def unload(self, name: str, on_done: Callable[[ServeError | None], None]) -> None: ...


class Clock(Protocol):
    """Time as a value: `now_ns` is monotonic, `wall_ms` counts from the epoch."""

    def now_ns(self) -> int: ...
    def wall_ms(self) -> int: ...
