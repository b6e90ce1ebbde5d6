"""What a measuring process of benchmarks/gpu.py may be told to do, without a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable


def doubles(factor: float) -> Callable[[float], dict[str, float]]:
    return lambda seconds: {"twice": factor * seconds, "pid": float(os.getpid())}


def cannot_start() -> Callable[[float], dict[str, float]]:
    raise RuntimeError("no memory left")


def dies() -> Callable[[float], dict[str, float]]:
    os._exit(7)


def fails_later() -> Callable[[float], dict[str, float]]:
    def measure(seconds: float) -> dict[str, float]:
        raise RuntimeError("device lost")

    return measure
