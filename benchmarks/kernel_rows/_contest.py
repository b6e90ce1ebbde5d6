"""What a contest is: one piece of work, Kedge and its peers, and what was expected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

KEDGE = "kedge"
UNITS = {"ns a value": 1e9, "ns an update": 1e9, "µs": 1e6, "ms": 1e3}
# What is timed, and how many operations it contains; or the CPU seconds of one operation, where
# another process has measured them.
Turn = tuple[Callable[[], object], int] | float


@dataclass(frozen=True)
class Peer:
    """prepare(turn): makes data that no turn has seen and what works on it; raises ImportError if
    the library is not there. rounds_max: fewer turns for the very slow.
    """

    prepare: Callable[[int], Turn]
    rounds_max: int = sys.maxsize


@dataclass(frozen=True)
class Bound:
    """cost_max: of Kedge, in the contest's unit; or with `peer`, ratio_min: its cost by Kedge's."""

    cost_max: float | None = None
    peer: str = ""
    ratio_min: float = 0.0

    def judged(self, times: Mapping[str, list[float]]) -> dict[str, Any]:
        """reached is None where a contestant was absent. A cost may exceed its bound by nothing."""
        if self.cost_max is not None:
            cost = median(times[KEDGE])
            return self._row(f"≤ {self.cost_max:g}", f"{cost:.3g}", cost <= self.cost_max)
        text = f"≥ {self.ratio_min:g}x {self.peer}"
        if self.peer not in times:
            return self._row(text, "not measured", None)
        ratio = median(times[self.peer]) / median(times[KEDGE])
        return self._row(text, f"{ratio:.3g}x", ratio >= self.ratio_min)

    @staticmethod
    def _row(text: str, measured: str, reached: bool | None) -> dict[str, Any]:
        return {"text": text, "measured": measured, "reached": reached}


@dataclass(frozen=True)
class Contest:
    """unit: a key of UNITS. contestants: by name, "kedge" among them."""

    key: str
    title: str
    unit: str
    contestants: Mapping[str, Peer]
    bounds: tuple[Bound, ...] = ()

    @property
    def scale(self) -> float:
        """Units in a second."""
        return UNITS[self.unit]
