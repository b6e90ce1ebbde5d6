"""A `model.py` for Triton's Python backend: recognized, imported, and initialized."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from kedge import proto
from kedge.core.errors import LoadFailed
from kedge.core.values import VersionManifest
from kedge.executors.archive import MODEL_PY
from kedge.executors.python_module import import_code, load_errors
from kedge.executors.triton_python import utils
from kedge.executors.triton_python.config_json import config_json

CLASS = "TritonPythonModel"


def is_triton_python(path: Path) -> bool:
    """Whether the file, or the `model.py` of the folder, defines or imports `TritonPythonModel`.

    Reads its text and runs nothing. False for a file that cannot be parsed: loading tells why.
    """
    file = path / MODEL_PY if path.is_dir() else path
    if file.suffix != ".py":
        return False
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return CLASS in _names_bound(tree.body)


def _names_bound(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name for alias in names)
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.If(body=body, orelse=other):
                yield from _names_bound([*body, *other])
            case ast.Try(body=body, handlers=handlers):
                yield from _names_bound([*body, *(line for h in handlers for line in h.body)])


def load_triton_python(manifest: VersionManifest) -> Any:
    """The initialized `TritonPythonModel` of a version. `auto_complete_config` is not called.

    Raises LoadFailed with the line of the file that failed.
    """
    path = manifest.path
    file = path / MODEL_PY if path.is_dir() else path
    config = proto.ModelConfig.FromString(manifest.config)
    folder = _version_folder(file, config)
    utils.install()
    code = import_code(file, _repository(folder, manifest.ref.version))
    model_class = getattr(code, CLASS, None)
    if not inspect.isclass(model_class):
        raise LoadFailed(f"{file}: has no class {CLASS}")
    with load_errors(file):
        model = model_class()
        if hasattr(model, "initialize"):
            model.initialize(arguments(manifest, config, folder))
    if not callable(getattr(model, "execute", None)):
        raise LoadFailed(f"{file}: {CLASS} has no method execute(requests)")
    return model


def arguments(manifest: VersionManifest, config: proto.ModelConfig, folder: Path) -> dict[str, str]:
    """What `initialize` gets: strings, as in Triton. folder: the version's own."""
    groups = config.instance_group
    return {
        "model_config": config_json(config),
        "model_name": manifest.ref.name,
        "model_version": str(manifest.ref.version),
        "model_repository": str(_repository(folder, manifest.ref.version)),
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
        # Different in every instance, like Triton's, and in every life of one.
        "model_instance_name": f"{groups[0].name if groups else manifest.ref.name}_{os.getpid()}",
    }


def _version_folder(file: Path, config: proto.ModelConfig) -> Path:
    """Where `default_model_filename`, which may have folders in it, starts."""
    parts = PurePosixPath(config.default_model_filename).parts
    file = file.absolute()
    is_below = bool(parts) and file.parts[-len(parts) :] == parts
    return file.parents[len(parts) - 1] if is_below else file.parent


def _repository(folder: Path, version: int) -> Path:
    """The model's folder, to which Triton's models add the version; without one, the version's."""
    return folder.parent if folder.name == str(version) else folder
