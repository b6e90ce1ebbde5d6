"""An endpoint file as the registry sees it: a named source of manifests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kedge.config.document import parse_document
from kedge.config.load import load_endpoint, read_file
from kedge.config.problems import ConfigError, Problem
from kedge.core.errors import InvalidRequest
from kedge.core.values import VersionManifest


@dataclass(frozen=True, slots=True)
class EndpointSource:
    """One endpoint file. Implements `core.sources.ModelSource`; everything is read anew each time.

    name: the endpoint's; of a file that cannot be read, its stem, under which the repository index
    then shows the reason.
    """

    path: Path
    name: str

    @classmethod
    def open(cls, path: Path) -> EndpointSource:
        """The source of `path`; never fails, `manifests` says what is wrong with the file."""
        return cls(path, _name(path))

    def manifests(self, config_override: str | None = None) -> Sequence[VersionManifest]:
        """All versions that the file lists, oldest first. Raises ConfigError.

        config_override: of a Triton load call; refused, for it would describe another model.
        """
        if config_override is not None:
            raise InvalidRequest(
                f"load failed for model '{self.name}': an endpoint file takes no 'config' "
                f"parameter; change {self.path}"
            )
        endpoint = load_endpoint(self.path)
        if endpoint.name != self.name:
            message = f"the name changed from {self.name!r}: serve it anew"
            raise ConfigError([Problem(str(self.path), 0, "name", message)])
        return endpoint.manifests


def _name(path: Path) -> str:
    try:
        name = parse_document(read_file(path), str(path)).values["name"]
    except (ConfigError, KeyError, TypeError):
        return path.stem
    return name if isinstance(name, str) and name else path.stem
