"""Runs every benchmark of this folder, one after the other, and sums up which goals were reached.

About 40 minutes, of which serve.py takes half; `--quick` looks at everything in about 10, keeps
nothing and says little about goals. Not here: gpu.py, which needs another machine.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from pathlib import Path

from _harness import console
from _processes import ending_on_signals
from rich.rule import Rule
from rich.table import Table

FOLDER = Path(__file__).resolve().parent
# The comparison first: it is the most sensitive to a machine that got warm.
BENCHMARKS = ("serve", "fronts", "startup", "hop", "isolation", "overload", "memory", "kernels")
WITHOUT_TABLE = frozenset({"startup"})
VERDICTS = {0: "[green]all goals reached[/]", 1: "[red]a goal was missed[/]"}
NOT_MEASURED = "[yellow]not measured[/]"
STOP_TIMEOUT_S = 60.0


def main() -> int:
    """Runs them; the highest of their exit codes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fast look, nothing is kept")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--write-readme", action="store_true", help="tables into the pages")
    options = parser.parse_args()
    table = Table("benchmark", "question", "verdict", "minutes", box=None)
    codes = []
    with ending_on_signals():
        for number, name in enumerate(options.only, 1):
            console.print(Rule(f"{number} of {len(options.only)}: {name}.py"))
            console.print(question(name), style="bold")
            begin_s = time.monotonic()
            code = run(command(name, options.quick, options.write_readme))
            codes.append(code)
            minutes = f"{(time.monotonic() - begin_s) / 60:.1f}"
            table.add_row(name, question(name), VERDICTS.get(code, NOT_MEASURED), minutes)
    console.print(Rule("in short"))
    console.print(table)
    return max(codes)


def question(name: str) -> str:
    """The question that a benchmark asks: the first sentence of its file."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return f"{paragraph.rpartition('?')[0]}?"


def command(name: str, quick: bool, write_readme: bool) -> list[str]:
    """How a benchmark is called."""
    options = ["--quick"] if quick else []
    if write_readme and name not in WITHOUT_TABLE:
        options.append("--write-readme")
    return [sys.executable, str(FOLDER / f"{name}.py"), *options]


def run(program: list[str]) -> int:
    """Its exit code; if this process is told to end, the benchmark ends its servers first."""
    with subprocess.Popen(program) as running:
        try:
            return running.wait()
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait(STOP_TIMEOUT_S)


if __name__ == "__main__":
    sys.exit(main())
