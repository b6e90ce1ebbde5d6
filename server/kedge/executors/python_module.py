"""Python models: a folder with `model.py`, whose `load(path)` makes the module.

It is code and runs with all that this process may do: only with --allow-model-code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from kedge.core.errors import LoadFailed
from kedge.executors.archive import MODEL_PY
from kedge.executors.tensors import last_line

LOAD = "load"
_modules = itertools.count()


def load_python(path: Path, device: str = "cpu") -> torch.nn.Module:
    """The module that `load(folder)` of the `model.py` at `path` returns, in evaluation mode.

    path: the file, or the folder that holds it. Its folder may hold modules that it imports.
    Raises LoadFailed with the line of the file that failed.
    """
    file = path / MODEL_PY if path.is_dir() else path
    code = import_code(file)
    load = getattr(code, LOAD, None)
    if not callable(load):
        raise LoadFailed(f"{file}: has no function {LOAD}(path)")
    with load_errors(file):
        module = load(file.parent)
    if not isinstance(module, torch.nn.Module):
        raise LoadFailed(
            f"{file}: {LOAD}(path) returned {type(module).__name__}, expected a torch.nn.Module"
        )
    return module.to(device).eval()


def import_code(file: Path, *folders: Path) -> ModuleType:
    """The file as a module that was run. Its folder, and `folders` behind it, may hold modules that
    it imports.

    Raises LoadFailed with the line of the file that failed.
    """
    if not file.is_file():
        raise LoadFailed(f"{file}: there is no such file")
    # A name of its own: several models, and versions of one, have a file of this name.
    name = f"kedge_model_{next(_modules)}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    for folder in reversed([str(one.resolve()) for one in (file.parent, *folders)]):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    with load_errors(file):
        spec.loader.exec_module(code)
    return code


@contextlib.contextmanager
def load_errors(file: Path) -> Iterator[None]:
    """Whatever the code of `file` raises in the block becomes LoadFailed with its line."""
    try:
        # This thread may be in inference mode for good, in which no weight can be made that
        # torch.export would take later.
        with torch.inference_mode(False):
            yield
    except LoadFailed:
        raise
    except (Exception, SystemExit) as error:
        where = f"line {_line(error, file)}: " if _line(error, file) else ""
        raise LoadFailed(f"{file}: {where}{type(error).__name__}: {last_line(error)}") from error


def _line(error: BaseException, file: Path) -> int:
    """The line of `file` where the error came from; 0 if none of it took part."""
    line, frame = 0, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(file):
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
