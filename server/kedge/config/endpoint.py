"""The keys of an endpoint file: type, default and meaning of each. Defaults live in core.settings.

These are the values as typed; `load.py` turns them into the core's.
"""

from __future__ import annotations

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
        description="TorchScript file: a path, absolute or relative to the endpoint file's folder, "
        "or a URL of https, http, s3, gs or file."
    )
    sha256: Sha256 = Field(
        default="",
        description="The file's SHA-256: it is checked before each load, and a URL that was "
        "fetched once is not asked again. Empty: any content is taken.",
    )


class Batching(_Section):
    """How waiting requests are joined into one execution."""

    later = frozenset({"buckets", "deterministic"})

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

    later = frozenset({"autoscaling", "routing", "placement", "deterministic", "instances"})

    batching: Batching = Field(
        default_factory=Batching, description="How requests are joined into batches."
    )
    queue: Queue = Field(default_factory=Queue, description="What may wait, and how long.")


class EndpointFile(_Section):
    """An endpoint: a model's interface, its versions, and how they are served."""

    model_config = ConfigDict(title="Kedge endpoint")
    later = frozenset(
        {"features", "rollout", "slo", "alerts", "monitor", "retrain", "export", "placement"}
    )

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
        default_factory=Serving, description="Batching and queue; the same for all versions."
    )


def json_schema() -> dict[str, Any]:
    """The format as JSON schema, for editors and other tools."""
    schema = EndpointFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
