"""Figures held against a bound, and the table that shows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One measured figure and the bound it has to keep. unit: written behind both."""

    text: str
    measured: float
    bound: float
    unit: str = ""
    at_least: bool = False

    @property
    def reached(self) -> bool:
        """Whether the figure is on the right side of the bound; the bound itself is."""
        right = self.measured >= self.bound if self.at_least else self.measured <= self.bound
        return bool(right)

    def row(self) -> dict[str, Any]:
        """For the results' file."""
        return {**asdict(self), "reached": self.reached}


def check_table(checks: Sequence[Check]) -> str:
    """One line per figure."""
    lines = ["| what is promised | goal | measured | |", "|---|--:|--:|---|"]
    for check in checks:
        sign = "≥" if check.at_least else "≤"
        verdict = "reached" if check.reached else "**missed**"
        bound, measured = (figure(value, check.unit) for value in (check.bound, check.measured))
        lines.append(f"| {check.text} | {sign} {bound} | {measured} | {verdict} |")
    return "\n".join(lines)


def exit_code(checks: Sequence[Check]) -> int:
    """1 if one is missed."""
    return int(not all(check.reached for check in checks))


def figure(value: float, unit: str = "") -> str:
    """Three significant digits, more where the whole part has more."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:,.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text} {unit}".strip()
