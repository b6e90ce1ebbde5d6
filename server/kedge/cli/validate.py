"""`kedge validate`: are these targets right, without starting anything."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from kedge.cli.models import place_of, read_targets
from kedge.cli.output import Exit, output_option, show_record, show_rows


@click.command()
@click.argument("targets", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option
@click.pass_context
def validate(context: click.Context, /, targets: tuple[Path, ...], output: str) -> None:
    """Check TARGETs, report every mistake.

    Each comes with its file and line. TARGET is an endpoint YAML, a folder of them, or a Triton
    model repository. Model files are looked for, not opened, and URLs are not fetched: `kedge
    doctor TARGET` does that.
    """
    manifests, problems = read_targets(targets)
    versions = [
        {
            "model": manifest.ref.name,
            "version": manifest.ref.version,
            "file": place_of(manifest),
            "max_batch_size": manifest.schema.rows_max if manifest.schema.batched else 0,
            "warnings": list(manifest.warnings),
        }
        for manifest in manifests
    ]
    if output == "table":
        rows = [
            {**row, "warnings": "; ".join(manifest.warnings)}
            for row, manifest in zip(versions, manifests, strict=True)
        ]
        if rows:
            show_rows(rows, output)
        for problem in problems:
            click.echo(problem, err=True)
    else:
        show_record({"versions": versions, "problems": [asdict(p) for p in problems]}, output)
    context.exit(Exit.FAILED if problems else Exit.OK)
