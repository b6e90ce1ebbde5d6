"""The decorators of every kernel: all compile options and their reasons, where the compiled code
is kept, and what there is to warm.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

# All kernels of the modules imported so far, and the functions that warm them.
KERNELS: list[Any] = []
WARM_UPS: list[Callable[[], None]] = []

_PACKAGE = Path(__file__).parent


def kernel(function: F) -> F:
    """Compiles at the first call with each combination of argument types; releases the GIL while
    it runs, because a kernel that kept it stalled other threads for up to 143 ms.
    """
    return _compiled(function, nogil=True)


def brief_kernel(function: F) -> F:
    """As `kernel`, but keeps the GIL: for entries that take less than about 100 us. Giving the GIL
    away and getting it back costs 120 us on average beside one busy Python thread.
    """
    return _compiled(function, nogil=False)


def warm_up(function: F) -> F:
    """Registers a function that calls every kernel of its module with every combination of argument
    types that the public functions pass, so that nobody waits for the compiler later.
    """
    WARM_UPS.append(function)
    return function


def _compiled(function: F, nogil: bool) -> F:
    # Numba looks at its cache directory once, while decorating. Setting it for that moment only
    # leaves the caches of other packages in this process where they are.
    config = cast(Any, numba.config)
    users_directory = config.CACHE_DIR
    config.CACHE_DIR = str(_CACHE or "")
    try:
        compiled = numba.njit(
            nogil=nogil,
            # A cold compile of the codec takes seconds; from the cache a kernel loads in 3 ms.
            cache=_CACHE is not None,
            # 1 / 0 is inf as in NumPy: Python's exception would cost a branch in every division.
            error_model="numpy",
            # Kernels check by themselves what comes from outside, once, not at every access.
            boundscheck=False,
            # With it isnan() is always False, and a sum depends on the width of the vectors.
            fastmath=False,
        )(function)
    finally:
        config.CACHE_DIR = users_directory
    KERNELS.append(compiled)
    return cast(F, compiled)


def cache_directory() -> Path | None:
    """The folder of the compiled kernels, which exists; None if every process compiles anew."""
    return _CACHE


def _cache_directory() -> Path | None:
    """Where compiled kernels are kept: in the first writable one of NUMBA_CACHE_DIR if it is set,
    the package's own `__pycache__`, the user's cache folder; None if none is. In it, a folder named
    after the sources of all kernels: Numba compares only the file of the kernel that it loads, so
    an edited helper in another file would go on running in its old form.
    """
    sources = hashlib.sha256()
    for path in sorted(_PACKAGE.glob("**/*.py")):
        sources.update(path.read_bytes())
    chosen = str(cast(Any, numba.config).CACHE_DIR)
    user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    parents = [Path(chosen)] if chosen else []
    parents.append(_PACKAGE / "__pycache__")
    if user.is_absolute():  # not so where a container's user has no home
        parents.append(user / "kedge")
    folders = (parent / f"kernels-{sources.hexdigest()[:16]}" for parent in parents)
    return next(filter(_is_writable, folders), None)


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which is created if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


_CACHE = _cache_directory()
