"""The real clock behind `core.ports.Clock`; tests pass one that they move themselves."""

from __future__ import annotations

import time


class SystemClock:
    """`now_ns` is monotonic, `wall_ms` counts from the epoch."""

    now_ns = staticmethod(time.monotonic_ns)

    @staticmethod
    def wall_ms() -> int:
        return time.time_ns() // 1_000_000
