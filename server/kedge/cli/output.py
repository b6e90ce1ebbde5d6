"""What every verb prints: `-o table|json|yaml`, and the exit codes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeVar

import click

Rows = Sequence[Mapping[str, Any]]
_Command = TypeVar("_Command", bound=Callable[..., Any])

FORMATS = ("table", "json", "yaml")
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
# Wide enough that no line of a piped table is wrapped, so that `grep` and `cut` see whole rows.
PIPE_COLUMNS = 10_000


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    GATE_FAILED = 4


def output_option(command: _Command) -> _Command:
    """Adds `-o/--output` as the argument `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How to print the result.",
    )(command)


def show_rows(rows: Rows, output: str) -> None:
    """Print rows that have the same keys; as a table the keys are its head."""
    if output == "table":
        columns = list(rows[0]) if rows else []
        _print_table(columns, [[row[column] for column in columns] for row in rows])
    else:
        _print_data([dict(row) for row in rows], output)


def show_record(record: Mapping[str, Any], output: str) -> None:
    """Print one record; as a table it has one line per key."""
    if output == "table":
        _print_table([], [list(item) for item in record.items()])
    else:
        _print_data(dict(record), output)


def _print_data(data: object, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(_printable(data), indent=2, ensure_ascii=False))
        return
    import yaml  # noqa: PLC0415 - one verb in three formats; --help must not pay for it

    click.echo(yaml.safe_dump(_printable(data), sort_keys=False, allow_unicode=True), nl=False)


def _printable(value: object) -> object:
    """JSON has no NaN and no infinity; they are written as protobuf's JSON form writes them."""
    match value:
        case Mapping():
            return {str(key): _printable(item) for key, item in value.items()}
        case list() | tuple():
            return [_printable(item) for item in value]
        case float() if not math.isfinite(value):
            return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case bytes():
            return value.decode(errors="backslashreplace")
        case _:
            return value


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich import box  # noqa: PLC0415 - 40 ms that --help must not pay
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_COLUMNS)
    table = Table(box=box.SIMPLE if console.is_terminal else None, show_header=bool(columns))
    for column in columns or [""] * len(rows[0] if rows else []):
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not str: rich would read `inputs[].name` as markup.
        table.add_row(*(Text(str(_printable(cell)), STYLES.get(str(cell), "")) for cell in row))
    console.print(table)
