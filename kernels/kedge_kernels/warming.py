"""All kernels compiled ahead: what an image ships so that no process compiles anything."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kedge_kernels import _jit


class WarmStep(NamedTuple):
    """One module whose kernels are about to be compiled, or loaded from the cache."""

    name: str
    done: int
    total: int


def warm_steps() -> Iterator[WarmStep]:
    """Warms one module after another, yielding each before its turn, for a progress bar.

    Seconds for each when cold; from the cache all of them take about a second.
    """
    import_modules()
    steps = sorted(_jit.WARM_UPS, key=lambda step: step.__module__)
    for index, step in enumerate(steps):
        yield WarmStep(step.__module__.rpartition(".")[2], index, len(steps))
        step()


def import_modules() -> None:
    """Imports every module of the package, so that all kernels are known."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"kedge_kernels.{module.name}")


def warm() -> None:
    """Compiles every kernel of the package for every type that its public functions pass, or loads
    it from the cache. `kedge_kernels.codec.warm` is the part that a server needs before it starts.
    """
    for _ in warm_steps():
        pass


def compiled_and_loaded() -> tuple[int, int]:
    """How many kernels this process compiled, and how many it took from the cache, so far.

    (0, 0) under NUMBA_DISABLE_JIT=1.
    """
    statistics = [kernel.stats for kernel in _jit.KERNELS if hasattr(kernel, "stats")]
    compiled = sum(sum(one.cache_misses.values()) for one in statistics)
    return compiled, sum(sum(one.cache_hits.values()) for one in statistics)
