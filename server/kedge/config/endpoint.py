"""The keys of an endpoint file: type, default and meaning of each. Defaults live in core.settings.

These are the values as typed; `load.py` turns them into the core's.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from kedge.config import units
from kedge.config.problems import nearest
from kedge.core.datatypes import DATATYPES
from kedge.core.settings import BatchLimits, ExecutionLimits, QueueLimits

_BATCH = BatchLimits()
_QUEUE = QueueLimits()
_EXECUTION = ExecutionLimits()

# Model and tensor names travel in URLs, metric labels and file names.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
VERSION_PATTERN = r"^[1-9][0-9]{0,17}$"
SHA256_PATTERN = r"^([0-9a-f]{64})?$"
# A batch is one buffer, and its rows are counted in int32 by several runtimes.
ROWS_MAX = 1_048_576
# Each instance is a process with a copy of the model.
INSTANCES_MAX = 256
AUTO = "auto"
DEVICE_PATTERN = r"^(cpu|cuda(:[0-9]{1,3})?)$"
DIM_MAX = 2**31 - 1


def _json_string(**keywords: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **keywords})


def _check_datatype(name: str) -> str:
    if name not in DATATYPES:
        raise ValueError(f"expected one of {', '.join(DATATYPES)}, got {name!r}{_hint(name)}")
    return name


def _hint(name: str) -> str:
    """The datatype meant by a name that is none, as a question; "" if nothing is like it."""
    aliases = {"STRING": "BYTES", "FLOAT": "FP32", "FLOAT32": "FP32", "FLOAT64": "FP64"}
    known = aliases.get(name.upper().removeprefix("TYPE_"))
    return f"; did you mean {known!r}?" if known else nearest(name, DATATYPES)


def _parse_devices(value: object) -> list[str]:
    """`cuda:1` or a list of such -> a list with numbers everywhere."""
    devices: list[str] = []
    for device in value if isinstance(value, list) else [value]:
        if not isinstance(device, str) or not re.fullmatch(DEVICE_PATTERN, device):
            raise ValueError(f"expected cpu, cuda:N, or a list of these, got {device!r}")
        devices.append("cuda:0" if device == "cuda" else device)
    if not devices:
        raise ValueError("needs at least one device")
    return devices


Duration = Annotated[
    int,
    BeforeValidator(units.parse_duration_us),
    _json_string(format="duration", pattern=units.DURATION_PATTERN),
]
Size = Annotated[
    int,
    BeforeValidator(units.parse_size_bytes),
    _json_string(format="size", pattern=units.SIZE_PATTERN),
]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Text = Annotated[str, StringConstraints(min_length=1)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN)]
Devices = Annotated[
    list[str],
    BeforeValidator(_parse_devices),
    WithJsonSchema(
        {
            "type": ["string", "array"],
            "format": "device or list of devices",
            "pattern": DEVICE_PATTERN,
            "items": {"type": "string", "pattern": DEVICE_PATTERN},
            "minItems": 1,
        }
    ),
]
Rows = Annotated[int, Field(ge=1, le=ROWS_MAX)]
Length = Annotated[int, Field(ge=1, le=DIM_MAX)]
Dim = Annotated[int, Field(ge=-1, le=DIM_MAX)]
DatatypeName = Annotated[
    str,
    AfterValidator(_check_datatype),
    WithJsonSchema({"type": "string", "enum": list(DATATYPES)}),
]


def _typed(text: str) -> Any:
    """A default as a user types it: validated, and shown in the schema, like any other value."""
    return text


class _Section(BaseModel):
    """A mapping of the file. `later`: keys that the format has and this version has not."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=True)
    later: ClassVar[frozenset[str]] = frozenset()


class Tensor(_Section):
    """One input or output, as clients see it."""

    later = frozenset({"role"})

    name: Text = Field(description="Name in requests and answers.")
    datatype: DatatypeName = Field(description=f"One of {', '.join(DATATYPES)}.")
    shape: list[Dim] = Field(
        max_length=32,
        description="Wire shape: batch dimension first as -1; any other -1 is any size.",
    )


class ModelVersion(_Section):
    """Where one version's model lies."""

    model: Text = Field(
        description="TorchScript file (.pt), torch.export file or AOTInductor package (.pt2), "
        "model.py, or the folder that holds it: a path, absolute or relative to the endpoint "
        "file's folder, or a URL of https, http, s3, gs or file."
    )
    format: Literal["auto", "torchscript", "torch_export", "aotinductor", "python"] = Field(
        default="auto", description="What the file must be; auto: what it is by its content."
    )
    sha256: Sha256 = Field(
        default="",
        description="The file's SHA-256: it is checked before each load, and a URL that was "
        "fetched once is not asked again. Empty: any content is taken.",
    )


class Batching(_Section):
    """How waiting requests are joined into one execution."""

    max_batch_size: int = Field(
        default=_BATCH.rows_max,
        ge=0,
        le=ROWS_MAX,
        description="Most rows in one request and in one batch; 0: the model has no batch "
        "dimension, and every request runs alone.",
    )
    max_queue_delay: Duration = Field(
        default=_typed(units.format_duration(_BATCH.delay_us_max)),
        description="Longest wait for more rows. With 0 a batch leaves as soon as the model is "
        "free, so load alone makes batches.",
    )
    preferred_batch_size: list[Rows] = Field(
        default=list(_BATCH.preferred_rows),
        description="Sizes at which a batch leaves without waiting further.",
    )
    buckets: list[Rows] = Field(
        default=list(_EXECUTION.batch_buckets),
        description="Row counts that the model runs at: a batch is padded with zeros to the next. "
        "Empty: as many rows as there are.",
    )
    deterministic: bool = Field(
        default=_EXECUTION.deterministic,
        description="Whether a row's answer has the same bits in any batch: all run at one size, "
        "the largest bucket or max_batch_size.",
    )
    length_buckets: list[Length] = Field(
        default=list(_EXECUTION.length_buckets),
        max_length=64,
        description="Lengths, ascending, to which dimensions of any size beside the batch are "
        "padded with zeros, so that requests of different lengths share a batch. Empty: none are.",
    )


class Queue(_Section):
    """What one version's queue may hold; what is beyond is refused at once."""

    later = frozenset({"priority_levels", "default_priority_level", "priority_queue_policy"})

    max_queued_requests: int = Field(
        default=_QUEUE.requests_max, ge=1, le=DIM_MAX, description="Most requests that wait."
    )
    max_queued_bytes: Size = Field(
        default=_typed(units.format_size(_QUEUE.bytes_max)), description="Most bytes that wait."
    )
    timeout: Duration = Field(
        default=_typed(units.format_duration(_QUEUE.timeout_us)),
        description="Longest wait of a request in the queue; 0ms: no limit.",
    )
    allow_timeout_override: bool = Field(
        default=_QUEUE.timeout_override,
        description="Whether a request's own `timeout` parameter may shorten the wait.",
    )


class Serving(_Section):
    """How the versions are run."""

    later = frozenset({"autoscaling", "routing"})

    batching: Batching = Field(
        default_factory=Batching, description="How requests are joined into batches."
    )
    queue: Queue = Field(default_factory=Queue, description="What may wait, and how long.")
    placement: Literal["auto", "inline", "workers"] = Field(
        default=_EXECUTION.placement.value,
        description="Where batches run: in the server's own loop (inline), in processes of their "
        "own (workers), or inline only what is TorchScript on the CPU and fast enough (auto).",
    )
    device: Devices = Field(
        default=list(_EXECUTION.devices), description="Devices, each with `instances` instances."
    )
    instances: int = Field(
        default=1, ge=1, le=INSTANCES_MAX, description="Processes per device, each with the model."
    )
    compile: Literal["auto", "none", "torchscript", "aotinductor"] = Field(
        default=_EXECUTION.compile.value,
        description="How a torch.export file or Python model is made fast. auto: what is fastest "
        "here, tried once and remembered; none: as it was saved.",
    )
    execute_timeout: Duration = Field(
        default=_typed(units.format_duration(_EXECUTION.timeout_us)),
        description="Longest time of one batch in a worker, which is then replaced.",
    )
    device_memory: Size = Field(
        default=_typed(units.format_size(_EXECUTION.device_memory_bytes_max)),
        description="Most device memory of one instance; 0B: no limit.",
    )


class EndpointFile(_Section):
    """An endpoint: a model's interface, its versions, and how they are served."""

    model_config = ConfigDict(title="Kedge endpoint")
    later = frozenset({"features", "rollout", "slo", "alerts", "monitor", "retrain", "export"})

    apiVersion: Literal["kedge/v1"] = Field(description="Version of this format.")  # noqa: N815
    kind: Literal["Endpoint"] = Field(description="What the file describes.")
    name: Name = Field(description="The model's name in requests.")
    inputs: list[Tensor] = Field(min_length=1, description="The model's inputs, in its order.")
    outputs: list[Tensor] = Field(min_length=1, description="The model's outputs, in its order.")
    versions: dict[Version, ModelVersion] = Field(
        min_length=1,
        description="Versions by number. All are served; a request that names none gets the "
        "highest.",
    )
    serving: Serving = Field(
        default_factory=Serving,
        description="Batching, queue and execution; the same for all versions.",
    )


def json_schema() -> dict[str, Any]:
    """The format as JSON schema, for editors and other tools."""
    schema = EndpointFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
