"""`kedge warm`: every kernel compiled ahead, into a folder that an image can ship."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from kedge.cli.output import Exit, output_option, show_record


@click.command()
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep the compiled kernels; processes then need NUMBA_CACHE_DIR set to it. "
    "By default beside the package, else in the user's cache folder.",
)
@output_option
@click.pass_context
def warm(context: click.Context, /, cache_dir: Path | None, output: str) -> None:
    """Compile all kernels now, so that no process compiles one later.

    Half a minute when nothing is compiled yet, else about a second. Compiled kernels fit the
    processor they were made on and the path of the package: run this in the image, where the
    package stays. Exit code 1 if there is no folder to keep them in.
    """
    if cache_dir is not None:
        # Numba and the kernels read it once, when they are imported.
        os.environ["NUMBA_CACHE_DIR"] = str(cache_dir.resolve())
    start_s = time.perf_counter()
    _warm_with_progress()
    from kedge_kernels import warming  # noqa: PLC0415 - numba, 0.5 s
    from kedge_kernels._jit import cache_directory  # noqa: PLC0415

    compiled, loaded = warming.compiled_and_loaded()
    folder = cache_directory()
    record = {
        "compiled": compiled,
        "from_cache": loaded,
        "seconds": round(time.perf_counter() - start_s, 1),
        "folder": str(folder or ""),
    }
    if cache_dir is not None:
        record["set"] = f"NUMBA_CACHE_DIR={cache_dir.resolve()}"
    show_record(record, output)
    if folder is None:
        click.echo("no folder is writable, so every process compiles: use --cache-dir", err=True)
        context.exit(Exit.FAILED)


def _warm_with_progress() -> None:
    """All steps, with a progress bar on stderr if that is a terminal."""
    from rich.console import Console  # noqa: PLC0415 - 40 ms that --help must not pay
    from rich.progress import Progress  # noqa: PLC0415

    from kedge_kernels.warming import warm_steps  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling", total=None)
        for step in warm_steps():
            progress.update(
                task, description=f"compiling {step.name}", completed=step.done, total=step.total
            )
