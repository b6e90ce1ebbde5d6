"""What `kedge serve TARGET...` was given: endpoint files, or Triton model repositories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kedge.config.problems import NOT_YET, ConfigError, Problem
from kedge.config.source import EndpointSource

ENDPOINT_SUFFIXES = (".yaml", ".yml")
MODEL_CONFIG = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class Targets:
    """endpoints: one source per endpoint file; repositories: Triton model repositories, which
    `kedge.models` reads.
    """

    endpoints: tuple[EndpointSource, ...]
    repositories: tuple[Path, ...]


def find_targets(paths: Iterable[Path]) -> Targets:
    """Sort `paths` into endpoint files and model repositories; says nothing about their contents.

    Raises ConfigError for every path that is neither, and for names that two endpoints share.
    """
    endpoints: list[EndpointSource] = []
    repositories: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            files = _endpoint_files(path)
            endpoints += map(EndpointSource.open, files)
            repositories += [] if files else [path]
        except ConfigError as error:
            problems += error.problems
    problems += _same_names(endpoints)
    if problems:
        raise ConfigError(problems)
    return Targets(tuple(endpoints), tuple(repositories))


def _endpoint_files(path: Path) -> list[Path]:
    """The endpoint files of one target; none if it is a model repository."""
    if ":/" in str(path):
        raise _refusal(
            path, f"a URL is {NOT_YET}: fetch it and give the file; in it, models may be URLs"
        )
    if path.is_file():
        if path.suffix in ENDPOINT_SUFFIXES:
            return [path]
        raise _refusal(path, f"expected an endpoint file ({', '.join(ENDPOINT_SUFFIXES)})")
    if not path.is_dir():
        raise _refusal(path, "does not exist")
    return _files_of_folder(path)


def _files_of_folder(folder: Path) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.suffix in ENDPOINT_SUFFIXES and entry.is_file()]
    models = [entry for entry in entries if (entry / MODEL_CONFIG).is_file()]
    if (folder / MODEL_CONFIG).is_file():
        raise _refusal(folder, f"is one model; give the folder that holds it: {folder.parent}")
    if files and models:
        raise _refusal(
            folder,
            f"holds endpoint files ({files[0].name}) and Triton models ({models[0].name}/"
            f"{MODEL_CONFIG}): give them as two targets, each in a folder of its own",
        )
    # An empty folder is a repository to which models will come.
    if entries and not files and not models:
        expected = f"neither endpoint files (*.yaml) nor models (NAME/{MODEL_CONFIG})"
        raise _refusal(folder, f"holds {expected}")
    return files


def _same_names(endpoints: Iterable[EndpointSource]) -> list[Problem]:
    first_of: dict[str, Path] = {}
    return [
        Problem(str(source.path), 0, "name", f"{source.name!r} is also the name of {first}")
        for source in endpoints
        if (first := first_of.setdefault(source.name, source.path)) is not source.path
    ]


def _refusal(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), 0, "", message)])
