"""What the demo shows while flights are under way: a live table on a terminal, lines in a pipe."""

from __future__ import annotations

from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TimeRemainingColumn
from rich.text import Text
from scores import MONTHS, Score, score, score_table
from traffic import VERSIONS, Traffic


class MonthlyScores:
    """Scores by month and version, of the flights that all versions have answered."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._final: dict[int, dict[str, Score]] = {}

    def rows(self) -> dict[str, dict[str, Score]]:
        """For `score_table`; months without any answer are left out."""
        scored = {
            int(month): self._score(month) for month in np.unique(self._traffic.flights.month)
        }
        return {MONTHS[month]: scores for month, scores in scored.items() if scores}

    def complete(self) -> dict[str, dict[str, Score]]:
        """As rows(), the months whose every flight was answered."""
        self.rows()
        return {MONTHS[month]: scores for month, scores in self._final.items()}

    def _score(self, month: int) -> dict[str, Score]:
        if month in self._final:
            return self._final[month]
        flights, probability = self._traffic.flights, self._traffic.probability
        of_month = flights.month == month
        answered = of_month.copy()
        for version in VERSIONS:
            answered &= ~np.isnan(probability[version])
        if not answered.any():
            return {}
        scores = {
            version: score(flights.late[answered], probability[version][answered])
            for version in VERSIONS
        }
        if answered.sum() == of_month.sum():
            self._final[month] = scores
        return scores


class TerminalView:
    """Redraws the whole picture at every update."""

    def __init__(self, traffic: Traffic, console: Console) -> None:
        self._traffic = traffic
        self._scores = MonthlyScores(traffic)
        self._progress = Progress(BarColumn(60), TimeRemainingColumn(), console=console)
        self._task = self._progress.add_task("", total=traffic.requests_total)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self) -> None:
        """Draws the state of now."""
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        traffic = self._traffic
        self._progress.update(self._task, completed=traffic.answers)
        rows = self._scores.rows()
        table = [score_table("Predicted so far", rows)] if rows else []
        return Group(Text(summary(traffic)), self._progress, *table)


class LineView:
    """Prints a line whenever a month is complete."""

    def __init__(self, traffic: Traffic, console: Console) -> None:
        self._traffic = traffic
        self._scores = MonthlyScores(traffic)
        self._console = console
        self._printed: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self) -> None:
        """Prints what was completed since the last call."""
        for month, scores in self._scores.complete().items():
            if month not in self._printed:
                self._printed.add(month)
                briers = ", ".join(f"v{name} {each.brier:.3f}" for name, each in scores.items())
                line = f"{month} complete: Brier {briers}; {summary(self._traffic)}"
                self._console.print(line, soft_wrap=True)


def summary(traffic: Traffic) -> str:
    """How many, how fast: one line."""
    return (
        f"{traffic.answers:,} of {traffic.requests_total:,} requests, "
        f"{traffic.answers_per_s:,.0f}/s with {traffic.in_flight} in flight, "
        f"p50 {traffic.latency_ms(50):.2f} ms, p99 {traffic.latency_ms(99):.2f} ms"
    )
