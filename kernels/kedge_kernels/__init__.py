"""Statistics of drift, detectors, evidence and scores at the speed of memory, and the hot loops of
the server, in Numba: arrays in, arrays out. Knows no server.

Names load their module when first used, so that `import kedge_kernels` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge_kernels.warming import warm as warm

# Where each public name stands; a type checker reads the imports above, which say the same.
_EXPORTS = {
    "warm": "warming",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605 - a list of str, made from the table


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'kedge_kernels' has no attribute {name!r}")
    value = getattr(import_module(f"kedge_kernels.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
