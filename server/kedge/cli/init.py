"""`kedge init`: a small project that trains a model and serves it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

TEMPLATES = {
    "endpoint.yaml": "endpoint.yaml.template",
    "train.py": "train.py.template",
    "README.md": "README.md.template",
}


@click.command()
@click.argument(
    "folder", default=".", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path)
)
def init(folder: Path) -> None:
    """Write a small working project to DIR.

    DIR is here if left out. Existing files are never touched.
    """
    taken = [name for name in TEMPLATES if (folder / name).exists()]
    if taken:
        raise click.ClickException(f"{folder} already has {', '.join(taken)}; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, template in TEMPLATES.items():
            text = files("kedge.cli").joinpath("templates", template).read_text()
            (folder / name).write_text(text)
    except OSError as error:
        raise click.ClickException(f"cannot write to {folder}: {error.strerror}") from None
    click.echo(f"Wrote {', '.join(TEMPLATES)} to {folder}. Next:\n")
    if folder != Path():
        click.echo(f"  cd {folder}")
    click.echo("  python train.py           # a few seconds; writes models/1/model.pt")
    click.echo("  kedge serve endpoint.yaml")
