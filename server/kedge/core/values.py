"""The values that the parts hand each other: what a model version is and what of it is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from kedge.core.datatypes import Datatype
from kedge.core.settings import BatchLimits, ExecutionLimits, QueueLimits
from kedge.core.statistics import VersionStatistics


class Runtime(Protocol):
    """What a version runs on, as far as its life goes. In the gateway it is an Executor; the
    control process only ends it.
    """

    def close(self) -> None: ...


R_co = TypeVar("R_co", bound=Runtime, covariant=True)


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model version's address. version >= 1."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A declared input or output. dims: wire dimensions without the batch one; -1 = any size."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]

    @property
    def has_fixed_dims(self) -> bool:
        """Whether every row has the same number of elements."""
        return all(dim >= 0 for dim in self.dims)


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """A version's inputs and outputs in the model's order.

    batched: whether the wire shape starts with a batch dimension (config.pbtxt max_batch_size > 0);
    without it shapes are whole and every request runs alone. rows_max: most rows in one request and
    in one batch; 1 when not batched.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    rows_max: int


class ModelFormat(Enum):
    """What a model file is. `AOTINDUCTOR` and `PYTHON` are code: `--allow-model-code` only."""

    TORCHSCRIPT = "torchscript"
    EXPORTED = "torch_export"
    AOTINDUCTOR = "aotinductor"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class VersionManifest:
    """All that must be known to load and serve one version; immutable.

    path: the model file; of a Python model its `model.py`. format: as declared, which the file must
    be, or else guessed from its name, and found out when it is loaded. config: the completed Triton
    ModelConfig, serialized, as ModelConfig answers it. labels: per output name, the lines of its
    label file. warnings: what was accepted but does nothing here, for `doctor` and the log. url:
    where the model is fetched from before it is loaded, "" for a file of this machine; until then
    `path` is only its name. sha256: what the file, or of a folder its SHA256SUMS, must have, in
    hexadecimal; "" accepts any.
    """

    ref: ModelRef
    platform: str
    path: Path
    schema: ModelSchema
    batch: BatchLimits
    queue: QueueLimits
    config: bytes
    format: ModelFormat = ModelFormat.TORCHSCRIPT
    is_format_declared: bool = False
    execution: ExecutionLimits = field(default_factory=ExecutionLimits)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    # Never shown: it may carry a password or a signed query. `core.urls.shown` is for that.
    url: str = field(default="", repr=False)
    sha256: str = ""


class VersionState(Enum):
    """States of the repository index, with Triton's words."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One row of the repository index. A model never loaded has version "" and state None."""

    name: str
    version: str
    state: VersionState | None
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ServedVersion(Generic[R_co]):
    """A loaded, warm version: its manifest, what runs it, and what it has done so far."""

    manifest: VersionManifest
    executor: R_co
    statistics: VersionStatistics = field(default_factory=VersionStatistics)

    @property
    def ref(self) -> ModelRef:
        return self.manifest.ref


@dataclass(frozen=True, slots=True)
class Catalog(Generic[R_co]):
    """Everything that is served now. Immutable and replaced whole, so a reader never sees half a
    change.

    A model all of whose versions were unloaded keeps its (empty) entry: Triton answers requests for
    it with other words than for a model that it never had.
    """

    models: Mapping[str, Mapping[int, ServedVersion[R_co]]] = field(default_factory=dict)

    def versions(self) -> tuple[ServedVersion[R_co], ...]:
        """All served versions, by name, oldest version first."""
        return tuple(
            self.models[name][version]
            for name in sorted(self.models)
            for version in sorted(self.models[name])
        )
