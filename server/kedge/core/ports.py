"""Where the parts meet: Protocols of one to a few methods, joined in `app.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kedge.core.errors import ServeError
from kedge.core.values import Catalog, IndexEntry, ModelRef, Runtime, VersionManifest

Buffer = NDArray[np.uint8]


class Call(NamedTuple):
    """One call that is no inference: method is the index in the list that the front was given."""

    call_id: int
    method: int
    payload: bytes


class Drain(NamedTuple):
    """What a front had to deliver, in columns: inference is by far the most, so it gets no objects.

    infer_ids[i] belongs to infer_payloads[i]. cancelled: calls that the client gave up, whose
    deadline passed or whose connection is gone, possibly of this same drain; none needs an answer.
    """

    infer_ids: list[int]
    infer_payloads: list[bytes]
    calls: list[Call]
    cancelled: list[int]

    @property
    def events(self) -> int:
        """How many events it holds."""
        return len(self.infer_ids) + len(self.calls) + len(self.cancelled)


# The metadata key of `LocalWay.secret`, and the environment variable that hands it to a process.
SECRET_METADATA = "kedge-secret"  # noqa: S105 - a name
SECRET_VARIABLE = "KEDGE_GATEWAY_SECRET"  # noqa: S105 - a name


class LocalWay(NamedTuple):
    """How this server's own processes reach its front. target: a plaintext gRPC target on this
    machine. secret: the metadata `SECRET_METADATA` without which the target refuses every call, ""
    where it asks for none. Tokens and roles apply on this way too.
    """

    target: str
    secret: str


class Front(Protocol):
    """A gRPC listener: raw bytes in and out, calls by id.

    `receive` blocks for the first event up to `timeout_ms`, then takes what else is there up to
    `events_max`; None once it is closed. `respond` and `fail` may be called from any thread, and
    return False when nobody waits for the answer any more.
    """

    @property
    def port(self) -> int: ...
    @property
    def local(self) -> LocalWay: ...
    def start(self) -> None: ...
    def receive(self, events_max: int, timeout_ms: int) -> Drain | None: ...
    def respond(self, call_id: int, payload: bytes) -> bool: ...
    def fail(self, call_id: int, error: ServeError) -> bool: ...
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
    rows whose inputs have the per-row dimensions `dims` and `nbytes` raw bytes each, to be filled
    and passed to `submit`, which takes them over until the batch's final result. `submit` also
    takes other writable C-contiguous buffers, such as shared memory, and reads them in place.
    `on_result(result, final)` is called once per answer of the batch, from any thread, possibly
    before `submit` returns; `final` is True on the last. `batches_free` is how many more batches
    may be submitted now; the queue keeps the rest.
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


@runtime_checkable
class OnDevice(Protocol):
    """An executor whose device can be lost for good: `then(error)` is called once, from any thread,
    after all that was submitted is answered. Only a new process can use the device again.
    """

    def when_lost(self, then: Callable[[Exception], None]) -> None: ...


class ModelControl(Protocol):
    """The registry as control sees it. `load` and `unload` return at once and call `on_done(error
    or None)` when finished, from any thread. `index` has one entry per version.
    """

    @property
    def catalog(self) -> Catalog[Runtime]: ...
    @property
    def ready(self) -> bool: ...
    def is_serving(self, ref: ModelRef) -> bool: ...
    def index(self) -> Sequence[IndexEntry]: ...
    def load(
        self,
        name: str,
        parameters: Mapping[str, object],
        on_done: Callable[[ServeError | None], None],
    ) -> None: ...
    def unload(self, name: str, on_done: Callable[[ServeError | None], None]) -> None: ...


class ModelFiles(Protocol):
    """Brings the file of a version onto this machine, verified.

    `fetch` returns the manifest with a `path` that exists, and for a URL with the `sha256` of what
    lies there; it may take minutes. The file stays until as many `release` as `fetch` have named
    it. Raises LoadFailed.
    """

    def fetch(self, manifest: VersionManifest) -> VersionManifest: ...
    def release(self, manifest: VersionManifest) -> None: ...


class UploadedFiles(Protocol):
    """Keeps the files that load calls bring.

    `put` writes the `files` of model `name`, by relative path, into a new private folder, whose
    last part is `name`, and returns it; it is there until `remove`. `check` raises what `put` would
    raise before it writes: InvalidRequest for a name or path that leaves its folder, for too many
    files, and for any if the server does not take files.
    """

    def check(self, name: str, files: Mapping[str, bytes]) -> None: ...
    def put(self, name: str, files: Mapping[str, bytes]) -> Path: ...
    def remove(self, folder: Path) -> None: ...


class Clock(Protocol):
    """Time as a value: `now_ns` is monotonic, `wall_ms` counts from the epoch."""

    def now_ns(self) -> int: ...
    def wall_ms(self) -> int: ...
