"""`kedge drift report`: two Parquet files compared, as a table and as a page of plots."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedge.cli.output import Exit, output_option, show_record, show_rows

if TYPE_CHECKING:
    from kedge.monitoring.drift.compare import ColumnDrift, DriftReport


@click.group()
def drift() -> None:
    """Compare data with the data a model was made for."""


@drift.command()
@click.argument("reference", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("current", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("drift.html"),
    show_default=True,
    help="Where to write the page of plots; one file that needs no network.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Share of wrong names among the columns named, at most, on average.",
)
@click.option(
    "--size-min",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Strength (Hellinger distance) below which a column is stable however sure a difference "
    "is; 0.05 leaves out what moved by less than a seventh of a standard deviation.",
)
@click.option("--exclude", multiple=True, metavar="NAME", help="A column to leave out; repeatable.")
@click.option("--fail-on-drift", is_flag=True, help="Exit with code 4 if any column drifted.")
@output_option
@click.pass_context
def report(context: click.Context, /, reference: Path, current: Path, **options: Any) -> None:
    """Compare the columns of Parquet file CURRENT with those of REFERENCE.

    Numbers by Kolmogorov-Smirnov, categories by chi-squared, both as samples, with a false
    discovery rate over all columns. Needs `pip install kedge[stats]`.
    """
    # Numba, pyarrow and plotly: a second that --help must not pay.
    from kedge.monitoring.drift.compare import compare  # noqa: PLC0415
    from kedge.monitoring.drift.page import render  # noqa: PLC0415
    from kedge.monitoring.drift.tables import TableError, read_pair  # noqa: PLC0415

    try:
        tables = read_pair(reference, current, options["exclude"])
        found = compare(tables, options["alpha"], options["size_min"])
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        page = render(found, reference.name, current.name, when)
        options["page"].write_text(page, encoding="utf-8")
    except (TableError, ImportError, OSError) as error:
        raise click.ClickException(str(error)) from None
    _show(found, options["page"], options["output"])
    if options["fail_on_drift"] and found.drifted:
        context.exit(Exit.GATE_FAILED)


def _show(found: DriftReport, page: Path, output: str) -> None:
    if output == "table":
        show_rows([_row(column) for column in found.columns], output)
        click.echo(
            f"{found.drifted} of {len(found.columns)} columns drifted; plots in {page}", err=True
        )
        return
    record = {
        "drifted": found.drifted,
        "page": str(page),
        "alpha": found.alpha,
        "reference_rows": found.reference_rows,
        "current_rows": found.current_rows,
        "columns": [_record(column) for column in found.columns],
        "left_out": found.left_out,
        "together": asdict(found.together) if found.together else None,
    }
    show_record(record, output)


def _row(column: ColumnDrift) -> dict[str, str]:
    from kedge.monitoring.drift.page import size_text  # noqa: PLC0415

    return {
        "column": column.name,
        "type": column.kind.value,
        "test": column.test,
        "statistic": f"{column.statistic:.4g}",
        "p": f"{column.combined_p_value:.3g}",
        "verdict": column.verdict.value,
        "strength": f"{column.strength:.3f}",
        "moved by": size_text(column),
        "missing": f"{column.missing_reference:.1%} → {column.missing_current:.1%}",
    }


def _record(column: ColumnDrift) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.kind.value,
        "test": column.test,
        "statistic": column.statistic,
        "p_value": column.p_value,
        "missing_p_value": column.missing_p_value,
        "combined_p_value": column.combined_p_value,
        "verdict": column.verdict.value,
        "strength": column.strength,
        "size": column.size,
        "psi": column.psi,
        "missing_reference": column.missing_reference,
        "missing_current": column.missing_current,
    }
