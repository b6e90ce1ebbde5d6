"""A drift report as one HTML file that needs no network: plotly.js is inside, and a content policy
forbids everything else. Names and categories come from files of others: all of them are escaped.
"""

from __future__ import annotations

import html
import json
import math
from importlib import resources
from typing import Any

from kedge.monitoring.drift.compare import ColumnDrift, DriftReport, Together, Verdict
from kedge.monitoring.drift.pictures import Picture
from kedge.monitoring.drift.tables import Kind

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
LABEL_MAX = 26
STATISTICS = {Kind.NUMBER: "KS statistic", Kind.CATEGORY: "χ² statistic"}
MEANINGS = (
    (
        "Verdict",
        "Drift where the p-value survives Benjamini-Hochberg over all columns at {alpha:g}: of the "
        "columns named, at most {alpha:.0%} are named wrongly on average. With many rows, small "
        "differences are certain too: look at the strength.",
    ),
    (
        "Strength",
        "Hellinger distance of the binned values, missing ones a bin: 0 for the same, 1 for "
        "nothing in common. A mean that moves by a tenth of a standard deviation gives "
        "0.035, by a half 0.18, by one 0.34.",
    ),
    (
        "Moved by",
        "Numbers: the Wasserstein distance in standard deviations of the reference, how far values "
        "moved on average. Categories: the share of rows that would have to change category.",
    ),
    (
        "p-value",
        "How often two samples of one distribution differ at least so much: two-sample "
        "Kolmogorov-Smirnov for numbers, chi-squared for categories (rare ones joined). Where "
        "values are missing, twice the smaller of it and of the p-value of the missing shares. "
        "Both files are taken as samples, none as exact.",
    ),
    (
        "PSI",
        "Population stability index over ten equal-frequency bins of the reference. Shown because "
        "it is known; the usual limit of 0.1 alarms without drift in small files, so it decides "
        "nothing here.",
    ),
    (
        "All numbers together",
        "A classifier that has not seen them tells rows of the two files apart with this AUC: 0.5 "
        "is a guess, 1 is certain. Reconstruction: how much worse the main directions of the "
        "reference describe the current rows; it sees relations that changed while every column "
        "stayed.",
    ),
)


def render(report: DriftReport, reference: str, current: str, when: str) -> str:
    """reference, current: what to call the files; when: a date as text. ImportError without
    plotly.
    """
    data = {
        "columns": [_picture_data(column.picture) for column in report.columns],
        "overview": [_overview_data(column) for column in report.columns],
    }
    folder = resources.files(__package__)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Drift: {_text(current)} against {_text(reference)}</title>",
            f"<style>{folder.joinpath('page.css').read_text()}</style></head><body><main>",
            _header(report, reference, current, when),
            '<h2>Columns by strength</h2><div id="overview"></div>',
            _legend(),
            '<div class="cards">',
            *(_card(index, column) for index, column in enumerate(report.columns)),
            "</div>",
            _left_out(report),
            _meanings(report.alpha),
            "</main>",
            f'<script type="application/json" id="data">{script_json(data)}</script>',
            f"<script>{_plotly()}</script>",
            f"<script>{folder.joinpath('page.js').read_text()}</script>",
            "</body></html>",
        ]
    )


def _header(report: DriftReport, reference: str, current: str, when: str) -> str:
    total = len(report.columns)
    kind = "drift" if report.drifted else "stable"
    tiles = [
        _tile(f"{report.drifted} of {total}", "columns drifted", kind),
        *_together_tiles(report.together),
        _tile(f"{report.reference_rows:,}", f"rows in {reference}"),
        _tile(f"{report.current_rows:,}", f"rows in {current}"),
    ]
    return (
        f'<h1>Drift report</h1><div class="soft">{_text(current)} against {_text(reference)}, '
        f'{_text(when)}, false discovery rate {report.alpha:g}</div><div class="tiles">'
        + "".join(tiles)
        + "</div>"
    )


def _together_tiles(together: Together | None) -> list[str]:
    if together is None:
        return []
    is_told_apart = together.low > 0.5
    is_worse = together.error_p_value < 0.01
    return [
        _tile(
            f"AUC {together.auc:.2f}",
            f"telling the files apart by {together.columns} number columns "
            f"({together.low:.2f} to {together.high:.2f}, 0.5 is a guess)",
            "drift" if is_told_apart else "stable",
        ),
        _tile(
            f"× {together.error_ratio:.2f}",
            f"reconstruction error of the rows ({_p(together.error_p_value)})",
            "drift" if is_worse else "stable",
        ),
    ]


def _tile(figure: str, caption: str, kind: str = "") -> str:
    return (
        f'<div class="tile"><b class="{kind}">{_text(figure)}</b>'
        f'<span class="soft small">{_text(caption)}</span></div>'
    )


def _legend() -> str:
    keys = "".join(
        f'<span class="key" style="background:var(--{side})"></span>{side}'
        for side in ("reference", "current")
    )
    return f'<h2>Each column</h2><p class="soft small">Share of the values per bar: {keys}</p>'


def _card(index: int, column: ColumnDrift) -> str:
    style = {Verdict.DRIFT: "drift", Verdict.STABLE: "stable"}.get(column.verdict, "")
    facts = [
        ("strength", f"{column.strength:.3f}"),
        ("moved by", size_text(column)),
        ("p-value", _p(column.combined_p_value, "")),
        (STATISTICS[column.kind], f"{column.statistic:.4g}"),
        ("PSI", f"{column.psi:.3f}"),
        ("type", column.kind.value),
    ]
    listed = "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in facts)
    return (
        f'<section class="card {style}"><div class="head"><h3>{_text(column.name)}</h3>'
        f'<span class="badge">{_text(column.verdict.value)}</span></div>'
        f'<div class="plot" data-column="{index}"></div><dl>{listed}</dl>'
        f"{_missing(column)}</section>"
    )


def _missing(column: ColumnDrift) -> str:
    if column.missing_reference == column.missing_current == 0:
        return ""
    rows = "".join(
        f'<div class="missing" title="{side}: {share:.2%}"><i style="width:{share:.2%};'
        f'background:var(--{side})"></i></div>'
        for side, share in (
            ("reference", column.missing_reference),
            ("current", column.missing_current),
        )
    )
    return (
        f'<div class="soft small" style="margin-top:8px">missing {column.missing_reference:.1%} → '
        f"{column.missing_current:.1%}{rows}</div>"
    )


def _left_out(report: DriftReport) -> str:
    if not report.left_out:
        return ""
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(why)}</td></tr>"
        for name, why in report.left_out.items()
    )
    return f"<h2>Not compared</h2><table>{rows}</table>"


def _meanings(alpha: float) -> str:
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(text.format(alpha=alpha))}</td></tr>"
        for name, text in MEANINGS
    )
    return f"<h2>What the figures mean</h2><table>{rows}</table>"


def size_text(column: ColumnDrift) -> str:
    """How far a column moved, for people."""
    if math.isnan(column.size):
        return "-"
    return f"{column.size:.2f} σ" if column.kind is Kind.NUMBER else f"{column.size:.1%} of rows"


def _p(value: float, name: str = "p") -> str:
    """p = 0.012, or without the name 0.012."""
    if math.isnan(value):
        return "-"
    if value < 1e-16:
        return f"{name} < 1e-16".strip()
    return f"{name} = {value:.2g}" if name else f"{value:.2g}"


def _picture_data(picture: Picture) -> dict[str, Any]:
    return {
        "reference": picture.reference,
        "current": picture.current,
        "edges": picture.edges,
        "labels": _distinct_labels(picture.labels),
    }


def _distinct_labels(labels: tuple[str, ...]) -> list[str]:
    """Short, and different where they only differ beyond that, for Plotly joins equal ones."""
    shown: list[str] = []
    for label in labels:
        short = _short(label)
        while short in shown:
            short += "\N{ZERO WIDTH SPACE}"
        shown.append(short)
    return shown


def _overview_data(column: ColumnDrift) -> dict[str, Any]:
    return {
        "name": html.escape(column.name),
        "label": _short(column.name),
        "verdict": column.verdict.value,
        "strength": 0.0 if math.isnan(column.strength) else column.strength,
        "text": html.escape(", ".join(_overview_facts(column))),
    }


def _overview_facts(column: ColumnDrift) -> list[str]:
    before, after = column.missing_reference, column.missing_current
    missing = [f"missing {before:.1%} → {after:.1%}"] if abs(after - before) >= 0.01 else []
    return [size_text(column), *missing, _p(column.combined_p_value)]


def _short(text: str) -> str:
    """Escaped: Plotly reads a small HTML in every label."""
    return html.escape(text if len(text) <= LABEL_MAX else text[: LABEL_MAX - 1] + "…")


def _text(value: str) -> str:
    return html.escape(value)


def script_json(data: Any) -> str:
    """JSON that cannot end a script element, whatever is in it."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra, 4.5 MB
    except ImportError:
        raise ImportError("drift reports need plotly: pip install 'kedge[stats]'") from None
    return str(get_plotlyjs())
