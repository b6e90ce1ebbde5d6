"""Every limit of the serving path: its name with unit, its default and why that number.

Declared once here, checked in `__post_init__`, frozen. Not here: how users write them (`config/`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

MIB = 1024 * 1024

# What a queue may hold beyond its own limits if nobody configured any. 1,024 requests wait about 40
# ms at 25 us each; a longer queue only makes answers late.
QUEUE_REQUESTS_MAX = 1024
# A request may bring many rows; 64 full batches of the largest usual size (1,024) are the same
# bound.
QUEUE_ROWS_MAX = 65_536
# All queues of the process together. 256 MiB holds 64 requests of 4 MiB; the rest is refused at
# once.
QUEUE_BYTES_MAX = 256 * MIB
# Events taken from the front in one call: enough for every stream of a saturating client (8 x 8 in
# the benchmark, 256 in the widest), few enough that cancellations behind them are seen within a
# millisecond.
EVENTS_PER_DRAIN_MAX = 512
# Calls that one connection may have open; a client with more keeps them on its side meanwhile. The
# front holds every message whole before it can be refused: 300 requests of 4 MiB on one connection
# took 2.5 GB with 1,024 streams. Not below 100 (RFC 9113, section 6.5.2): a client that cancels
# what it could not yet send opens and resets streams at once; over 20 of these end its connection.
STREAMS_PER_CONNECTION_MAX = 100
# Calls that a grpcio front holds at once over all connections, messages of streams included; what
# is beyond is refused before its message is read. Twice a queue's requests, so that the queue,
# which knows the model, refuses first; at 250 us each they are half a second of that front's work.
FRONT_CALLS_MAX = 2 * QUEUE_REQUESTS_MAX
# Bytes that wait between a grpcio front and the gateway's loop; the loop empties it between two
# batches.
FRONT_BYTES_MAX = QUEUE_BYTES_MAX
# Largest message that a grpcio front takes in. Protobuf cannot parse a larger one.
MESSAGE_BYTES_MAX = 2**31 - 1
# Messages of one stream that wait for their answer or for the client to take it; the front reads
# the next one when one of them is gone. Fills a batch of the usual size from one stream.
STREAM_MESSAGES_MAX = 64
# Longest time of one batch in a worker. Large models on a busy CPU take seconds, never half a
# minute; a client gives up long before.
EXECUTE_TIMEOUT_US = 30_000_000
# A batch that takes longer than this leaves the gateway's loop: the hop to a worker costs 0.1 ms,
# and every other model waits meanwhile.
INLINE_US_MAX = 1_000
# Batches that one gateway may have at one worker: one runs, the next one is there when it ends.
BATCHES_PER_WORKER_MAX = 2

# Models fetched from URLs, on disk. Four of the largest that one GPU of 80 GB runs in half
# precision; a model that serves is never removed, whatever else is.
MODEL_CACHE_BYTES_MAX = 64 * 1024 * MIB
# Files that load calls bring, until they are written, all calls together: each is held in memory
# whole, and its message is parsed on the serving thread, about 0.1 s for this much.
UPLOAD_BYTES_MAX = 512 * MIB
# Of one load call: a model has a few per version.
UPLOAD_FILES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A forming batch closes at `rows_max` rows, or `delay_us_max` after its first request arrived.

    With `delay_us_max` 0 a batch closes as soon as the executor is free: alone in flight means no
    waiting, and load makes batches by itself. `preferred_rows`: sizes that close a batch early.
    `joins_requests` False runs every request alone (config.pbtxt without dynamic_batching).
    """

    rows_max: int = 64
    delay_us_max: int = 0
    preferred_rows: tuple[int, ...] = ()
    joins_requests: bool = True

    def __post_init__(self) -> None:
        if self.rows_max < 1:
            raise ValueError(f"rows_max must be at least 1, got {self.rows_max}")
        if self.delay_us_max < 0:
            raise ValueError(f"delay_us_max must be at least 0, got {self.delay_us_max}")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of one model version's queue; what is beyond is refused at once, never kept waiting.

    timeout_us: longest wait in the queue, 0 = no limit; a request's own `timeout` parameter can
    only shorten it, and only when `timeout_override` is set (Triton's allow_timeout_override).
    """

    requests_max: int = QUEUE_REQUESTS_MAX
    rows_max: int = QUEUE_ROWS_MAX
    bytes_max: int = QUEUE_BYTES_MAX
    timeout_us: int = 0
    timeout_override: bool = False

    def __post_init__(self) -> None:
        for name in ("requests_max", "rows_max", "bytes_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.timeout_us < 0:
            raise ValueError(f"timeout_us must be at least 0, got {self.timeout_us}")


class Placement(Enum):
    """Where a version's batches run. `auto`: inline only a TorchScript model on the CPU whose
    measured batch takes at most `INLINE_US_MAX`; all else in worker processes.
    """

    AUTO = "auto"
    INLINE = "inline"
    WORKERS = "workers"


class Compile(Enum):
    """What makes a module fast. `auto` measures what applies and keeps the fastest; `none` runs
    the model as it was saved.
    """

    AUTO = "auto"
    NONE = "none"
    TORCHSCRIPT = "torchscript"
    AOTINDUCTOR = "aotinductor"


@dataclass(frozen=True, slots=True)
class ExecutionLimits:
    """How one version is executed.

    devices: one entry per instance, `cpu` or `cuda:N`; an instance is one worker process.
    timeout_us: longest time of one batch; a worker that takes longer is killed and replaced.
    batch_buckets: row counts to which batches are padded; () pads nothing unless `deterministic`,
    which makes answers bit-equal in any batch, or a CUDA graph asks for it. length_buckets: sizes
    to which the dimensions of size -1 are padded with zeros, for token models; () pads nothing.
    device_memory_bytes_max: most device memory of one instance, 0 = no limit.
    """

    placement: Placement = Placement.AUTO
    devices: tuple[str, ...] = ("cpu",)
    compile: Compile = Compile.AUTO
    deterministic: bool = False
    batch_buckets: tuple[int, ...] = ()
    length_buckets: tuple[int, ...] = ()
    timeout_us: int = EXECUTE_TIMEOUT_US
    device_memory_bytes_max: int = 0

    def __post_init__(self) -> None:
        if not self.devices:
            raise ValueError("devices needs at least one entry")
        buckets = self.length_buckets
        if any(size < 1 for size in buckets) or list(buckets) != sorted(set(buckets)):
            raise ValueError(f"length_buckets must be ascending from 1, got {buckets}")
        if self.timeout_us < 1:
            raise ValueError(f"timeout_us must be at least 1, got {self.timeout_us}")


class FrontKind(Enum):
    """Which library listens. `auto`: native unless an option asks for what only grpcio has."""

    AUTO = "auto"
    NATIVE = "native"
    GRPCIO = "grpcio"


class CompressionLevel(Enum):
    """How answers are compressed for clients that accept it; Triton's levels. gRPC chooses gzip or
    deflate by it, from what the client accepts.
    """

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """How the gRPC listener treats connections and messages.

    tls_cert, tls_key: PEM files of the server's certificate chain and key, both or none.
    tls_client_ca: PEM file; clients must show a certificate that it signed. connection_age_ms_max:
    then a connection is closed politely, and after connection_age_grace_ms more by force; 0 =
    never. keepalive_ms, keepalive_timeout_ms: a silent connection with calls is pinged, and closed
    if no answer comes; gRPC's and Triton's defaults.
    """

    kind: FrontKind = FrontKind.AUTO
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    connection_age_ms_max: int = 0
    connection_age_grace_ms: int = 0
    compression: CompressionLevel = CompressionLevel.NONE
    message_bytes_max: int = MESSAGE_BYTES_MAX
    keepalive_ms: int = 7_200_000
    keepalive_timeout_ms: int = 20_000
    calls_max: int = FRONT_CALLS_MAX
    waiting_bytes_max: int = FRONT_BYTES_MAX
    stream_messages_max: int = STREAM_MESSAGES_MAX

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key need each other")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.connection_age_grace_ms and not self.connection_age_ms_max:
            raise ValueError("--grpc-max-connection-age-grace needs --grpc-max-connection-age")
        for name in ("connection_age_ms_max", "connection_age_grace_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in (
            "message_bytes_max",
            "keepalive_ms",
            "keepalive_timeout_ms",
            "calls_max",
            "waiting_bytes_max",
            "stream_messages_max",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of fetching models from URLs.

    cache_bytes_max: of all fetched models on disk. stall_s_max: longest time in which nothing
    arrives, connecting included. fetch_s_max: longest time of one file, and of waiting for another
    process that fetches the same one. folder_files_max: files of one folder.
    """

    cache_bytes_max: int = MODEL_CACHE_BYTES_MAX
    # A busy object store answers within seconds; TCP itself gives up after minutes.
    stall_s_max: float = 30.0
    # 15 GB at 10 MB/s take 25 minutes.
    fetch_s_max: float = 3_600.0
    folder_files_max: int = 1_000

    def __post_init__(self) -> None:
        for name in ("cache_bytes_max", "stall_s_max", "fetch_s_max", "folder_files_max"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What `kedge serve` runs with: complete, checked, in internal units.

    targets: endpoint YAML files, folders of them, or Triton model repositories. model_control:
    `none` loads all at start, `poll` re-reads the targets every `poll_s`, `explicit` loads only
    what `load_models` and the load calls name. Ports: 0 means any free one.
    """

    targets: tuple[Path, ...]
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    model_control: str = "none"
    load_models: tuple[str, ...] = ()
    poll_s: float = 15.0
    token_file: Path | None = None
    allow_model_code: bool = False
    state_dir: Path = field(default_factory=lambda: Path(".kedge"))
    queue_bytes_max: int = QUEUE_BYTES_MAX
    front: FrontSettings = field(default_factory=FrontSettings)
    model_cache_bytes_max: int = MODEL_CACHE_BYTES_MAX
    # Triton's --exit-timeout-secs: how long SIGTERM waits for what was accepted.
    drain_s_max: float = 30.0
