"""A Triton model repository on disk: NAME/config.pbtxt, NAME/VERSION/model.pt, label files.

Reads configurations and lists directories; opens no model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from kedge import proto
from kedge.core.errors import RepositoryFailed
from kedge.core.values import VersionManifest
from kedge.models.manifest import manifest_of
from kedge.models.pbtxt import CONFIG_BYTES_MAX, complete, parse_json, parse_text
from kedge.models.support import check, warnings_about

CONFIG_FILENAME = "config.pbtxt"
# ImageNet's 21,000 class names have 500 KB; a file beyond this holds no class names.
LABELS_BYTES_MAX = 16 * 1024 * 1024
# As Triton does, directories with leading zeros are left alone. 18 digits always fit an int64.
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class RepositoryModel:
    """One model directory. Implements `core.sources.ModelSource`."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    def manifests(self, config_override: str | None) -> Sequence[VersionManifest]:
        """The versions that the version policy selects, oldest first; see `ModelSource`.

        A model file that is missing is found when the version is loaded, and fails only that.
        """
        path = self.directory / CONFIG_FILENAME
        where = str(path)
        if config_override is None:
            config = parse_text(_read(path, CONFIG_BYTES_MAX), where)
        else:
            where = f"parameter 'config' of the load call for '{self.name}'"
            config = parse_json(config_override, where)
        config = complete(config, self.name)
        check(config, self.name, where)
        present = _version_numbers(self.directory)
        selected = select_versions(config.version_policy, present)
        if not selected:
            raise RepositoryFailed(
                f"{where}: at least one version must be available under the version policy of "
                f"model '{self.name}'; found {sorted(present) or 'no version directory'}"
            )
        labels = self._labels(config)
        missing = sorted(set(config.version_policy.specific.versions) - present)
        warnings = [f"version_policy: there is no directory for version {v}" for v in missing]
        warnings += warnings_about(config)
        return [
            manifest_of(
                config,
                version,
                self.directory / str(version) / config.default_model_filename,
                labels,
                warnings,
            )
            for version in selected
        ]

    def _labels(self, config: proto.ModelConfig) -> dict[str, tuple[str, ...]]:
        """Per output that names a label file, its lines."""
        return {
            output.name: _read_lines(self.directory / output.label_filename)
            for output in config.output
            if output.label_filename
        }


def sources_of_repository(root: Path) -> list[RepositoryModel]:
    """Every model directory of a repository, by name, with or without a usable configuration.

    Hidden directories are none, nor are names that a message cannot carry. Raises RepositoryFailed
    when `root` cannot be listed.
    """
    return [
        RepositoryModel(directory)
        for directory in _directories(root)
        if not directory.name.startswith(".") and directory.name.isprintable()
    ]


def select_versions(policy: proto.ModelVersionPolicy, present: Collection[int]) -> list[int]:
    """Which of the versions that are `present` the policy serves, ascending."""
    versions = sorted(present)
    match policy.WhichOneof("policy_choice"):
        case "all":
            return versions
        case "specific":
            return sorted(set(policy.specific.versions) & set(present))
        case _:
            newest = policy.latest.num_versions
            return versions[-newest:] if newest > 0 else []


def _version_numbers(directory: Path) -> set[int]:
    return {int(path.name) for path in _directories(directory) if _VERSION.fullmatch(path.name)}


def _directories(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except OSError as error:
        raise RepositoryFailed(f"{parent}: cannot be listed: {error.strerror}") from None


def _read(path: Path, bytes_max: int) -> bytes:
    """The file's content, one byte beyond `bytes_max` at most."""
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except OSError as error:
        raise RepositoryFailed(f"{path}: cannot be read: {error.strerror}") from None


def _read_lines(path: Path) -> tuple[str, ...]:
    content = _read(path, LABELS_BYTES_MAX)
    if len(content) > LABELS_BYTES_MAX:
        raise RepositoryFailed(f"{path}: expected at most {LABELS_BYTES_MAX} bytes of labels")
    try:
        return tuple(line.rstrip("\r") for line in content.decode("utf-8").rstrip("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise RepositoryFailed(f"{path}: expected UTF-8, byte {error.start} is not") from None
