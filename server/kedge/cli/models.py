"""Every model version of some targets, and every reason why one cannot be served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kedge.config.problems import ConfigError, Problem
from kedge.core.errors import ServeError

if TYPE_CHECKING:
    from kedge.core.sources import ModelSource
    from kedge.core.values import VersionManifest

# How `doctor` tells its probe that models that are code may be tried.
ALLOW_MODEL_CODE = "--allow-model-code"


def read_targets(targets: Sequence[Path]) -> tuple[list[VersionManifest], list[Problem]]:
    """The manifests of all versions in `targets`, and the problems of those that have none.

    One broken model hides no other. Model files are looked for, not opened; URLs are not asked.
    """
    sources, problems = _sources(targets)
    manifests: list[VersionManifest] = []
    for source in sources:
        try:
            manifests += source.manifests(None)
        except ServeError as error:
            problems += _problems(source.name, error)
    problems += [
        Problem(str(manifest.ref), 0, "", f"{manifest.path} does not exist")
        for manifest in manifests
        if not _may_be_there(manifest)
    ]
    return list(filter(_may_be_there, manifests)), problems


def _may_be_there(manifest: VersionManifest) -> bool:
    return bool(manifest.url) or manifest.path.is_file()


def place_of(manifest: VersionManifest) -> str:
    """Where a version's model lies, as it may be shown."""
    from kedge.core.urls import shown  # noqa: PLC0415 - see `_sources`

    return shown(manifest.url) if manifest.url else str(manifest.path)


def _sources(paths: Sequence[Path]) -> tuple[list[ModelSource], list[Problem]]:
    # These import pydantic and protobuf, which `kedge --help` must not pay for.
    from kedge.config.targets import find_targets  # noqa: PLC0415
    from kedge.models.repository import sources_of_repository  # noqa: PLC0415

    sources: list[ModelSource] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            targets = find_targets([path])
            sources += targets.endpoints
            for repository in targets.repositories:
                sources += sources_of_repository(repository)
        except ServeError as error:
            problems += _problems(str(path), error)
    return sources, problems + _same_names(sources)


def _same_names(sources: Sequence[ModelSource]) -> list[Problem]:
    names = [source.name for source in sources]
    return [
        Problem(name, 0, "", f"{names.count(name)} of the targets have a model of this name")
        for name in sorted(set(names))
        if names.count(name) > 1
    ]


def _problems(name: str, error: ServeError) -> list[Problem]:
    if isinstance(error, ConfigError):
        return list(error.problems)
    return [Problem(name, 0, "", str(error))]
