"""Where model versions come from, as the registry sees it: one source per model name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kedge.core.values import VersionManifest


class ModelSource(Protocol):
    """One model of a target: a folder of a Triton model repository, or an endpoint file.

    Making a source is cheap; `manifests` reads the files anew at every call and opens no model, so
    that a caller can ask often and compare. It returns the versions to serve, at least one.

    config_override: a Triton ModelConfig as JSON, which replaces the source's own configuration
    whole. Raises RepositoryFailed, naming file and field, when the configuration cannot be read or
    asks for what this version of Kedge does not do; InvalidRequest when the source takes no
    override.
    """

    @property
    def name(self) -> str: ...
    def manifests(self, config_override: str | None) -> Sequence[VersionManifest]: ...
