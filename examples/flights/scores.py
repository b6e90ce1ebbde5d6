"""How good predicted probabilities were, as figures and as a table of one row per month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table

MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Score:
    """Quality of `flights` predictions; shares in 0..1; auc is NaN unless both classes occur."""

    flights: int
    late_share: float
    prediction_mean: float
    accuracy: float
    brier: float
    auc: float


def score(late: npt.NDArray[np.bool_], probability: npt.NDArray[np.float32]) -> Score:
    """late: bool[n], probability: f4[n] in [0, 1], n >= 1. Brier 1950, Mon. Weather Rev. 78."""
    assert len(late) == len(probability) > 0
    return Score(
        flights=len(late),
        late_share=float(late.mean()),
        prediction_mean=float(probability.mean()),
        accuracy=float(((probability > 0.5) == late).mean()),
        brier=float(np.square(probability - late).mean()),
        auc=auc(late, probability),
    )


def auc(late: npt.NDArray[np.bool_], probability: npt.NDArray[np.float32]) -> float:
    """Chance that a late flight is ranked above a punctual one, ties half; NaN without both.

    late: bool[n], probability: f4[n]. Source: Mann and Whitney 1947, Ann. Math. Stat. 18.
    """
    late_count = int(late.sum())
    pairs = late_count * (len(late) - late_count)
    if pairs == 0:
        return float("nan")
    _, group, sizes = np.unique(probability, return_inverse=True, return_counts=True)
    rank_of_group = np.cumsum(sizes) - (sizes - 1) / 2
    rank_sum = float(rank_of_group[group][late].sum())
    return (rank_sum - late_count * (late_count + 1) / 2) / pairs


def score_table(title: str, rows: Mapping[str, Mapping[str, Score]]) -> Table:
    """A table of rows[period][version]; every period has the same versions, and at least one."""
    versions = list(next(iter(rows.values()), {}))
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0)
    table.add_column("2013")
    table.add_column("flights", justify="right")
    table.add_column("late", justify="right")
    for heading in ("mean", "right", "Brier", "AUC"):
        for version in versions:
            table.add_column(f"{heading}\nv{version}", justify="right")
    for period, scores in rows.items():
        any_score = next(iter(scores.values()))
        table.add_row(
            period,
            f"{any_score.flights:,}",
            f"{any_score.late_share:.3f}",
            *(f"{scores[version].prediction_mean:.3f}" for version in versions),
            *(f"{scores[version].accuracy:.3f}" for version in versions),
            *(f"{scores[version].brier:.3f}" for version in versions),
            *(f"{scores[version].auc:.3f}" for version in versions),
        )
    return table
