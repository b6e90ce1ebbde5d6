"""`kedge predict`: one request from JSON, its answer as table, JSON or YAML."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedge.cli.client_options import client_options
from kedge.cli.output import output_option, show_record, show_rows

if TYPE_CHECKING:
    from kedge.client import Prediction


@click.command()
@click.argument("name")
@client_options
@click.option(
    "--input",
    "source",
    required=True,
    metavar="JSON|@FILE|-",
    help="Inputs by name: '{\"x\": [[1, 2]]}', @FILE with the same, or - for stdin.",
)
@click.option("--request-id", default="", help="Sent with the request and answered.")
@output_option
def predict(name: str, source: str, output: str, **options: Any) -> None:
    """Ask model NAME for one prediction."""
    inputs = _read_inputs(source)
    from kedge.client import KedgeError, connect  # noqa: PLC0415 - imports grpc, 0.1 s

    try:
        with connect(options["address"], options["token"], options["timeout_s"]) as client:
            answer = client.predict(
                name, inputs, options["model_version"], request_id=options["request_id"]
            )
    except KedgeError as error:
        raise click.ClickException(str(error)) from None
    if output == "table":
        click.echo(f"{answer.model} version {answer.version}")
        show_rows(_table(answer), output)
        return
    outputs = {key: array.tolist() for key, array in answer.items()}
    record = {"model": answer.model, "version": answer.version, "id": answer.request_id}
    show_record({**record, "outputs": outputs}, output)


def _read_inputs(source: str) -> dict[str, Any]:
    try:
        if source == "-":
            text = sys.stdin.read()
        elif source.startswith("@"):
            text = Path(source[1:]).read_text()
        else:
            text = source
        inputs = json.loads(text)
    except OSError as error:
        raise click.BadParameter(f"{source[1:]}: {error.strerror}", param_hint="--input") from None
    except ValueError as error:
        raise click.BadParameter(f"is no JSON: {error}", param_hint="--input") from None
    if not isinstance(inputs, dict):
        raise click.BadParameter('expected {"NAME": values, ...}', param_hint="--input")
    return inputs


def _table(answer: Prediction) -> list[dict[str, Any]]:
    """One line per row if all outputs have as many, else one line with everything."""
    lengths = {len(array) if array.ndim else 0 for array in answer.values()}
    if len(lengths) == 1 and 0 not in lengths:
        (rows,) = lengths
        return [
            {
                key: array[row].tolist() if hasattr(array[row], "tolist") else array[row]
                for key, array in answer.items()
            }
            for row in range(rows)
        ]
    return [{key: array.tolist() for key, array in answer.items()}]
