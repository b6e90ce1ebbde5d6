"""What every benchmark shares: the machine's fingerprint, result rows, the README's blocks."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markdown import Markdown

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
BENCHMARKS_PAGE = REPOSITORY / "benchmarks" / "README.md"
PACKAGES = ("kedge", "pygrpc-native", "numba", "torch", "numpy", "grpcio", "protobuf")

console = Console()


class BenchmarkFailed(RuntimeError):
    """A benchmark cannot go on; the first line of the message says why."""


def run_benchmark(main: Callable[[], int]) -> NoReturn:
    """Ends the process with main's code; with 2 and the reason if it could not measure."""
    try:
        code = main()
    except BenchmarkFailed as failure:
        console.print(f"[red]cannot measure[/]: {failure}", highlight=False)
        code = 2
    sys.exit(code)


def fingerprint() -> dict[str, Any]:
    """What a figure depends on besides the code: processor, memory, kernel, versions, commit."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cpu_family": _field("/proc/cpuinfo", "cpu family"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "uncommitted": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def describe(machine: dict[str, Any]) -> str:
    """The fingerprint as one line under a table."""
    uncommitted = " with uncommitted changes" if machine["uncommitted"] else ""
    packages = machine["packages"]
    return (
        f"{machine['cores']} cores of {machine['cpu']} (family {machine['cpu_family']}), "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}, Python {machine['python']}, "
        f"torch {packages['torch']}, numba {packages['numba']}, "
        f"commit {machine['commit']}{uncommitted}"
    )


def result_row(benchmark: str, row: dict[str, Any]) -> dict[str, Any]:
    """One run with its date and fingerprint."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"benchmark": benchmark, "date": date, "machine": fingerprint(), **row}


def keep_result(row: dict[str, Any], quick: bool = False) -> None:
    """Adds a result_row() to results/BENCHMARK.jsonl and says so; a quick look is not kept."""
    if quick:
        console.print("a quick look, not kept")
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{row['benchmark']}.jsonl"
    with path.open("a") as results:
        results.write(json.dumps(row) + "\n")
    console.print(f"added to {path.relative_to(REPOSITORY)}")


def how(row: dict[str, Any], settings: str) -> str:
    """When, by which settings and on which machine a row was measured: one line under a table."""
    return f"{row['date'][:10]}, {settings}: {describe(row['machine'])}."


def show(report: str) -> None:
    """Prints Markdown: drawn in a terminal, as it is in a file."""
    console.print(Markdown(report) if console.is_terminal else report, soft_wrap=True)


def replace_block(text: str, name: str, body: str) -> str:
    """The text with what stands between `<!-- bench:NAME -->` and its end mark replaced.

    Raises ValueError when the marks are not there.
    """
    start, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    before, found_start, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not (found_start and found_end):
        raise ValueError(f"no {start} … {end} block to write the table into")
    return f"{before}{start}\n{body.strip()}\n{end}{after}"


def write_block(page: Path, name: str, body: str) -> None:
    """replace_block() in a file."""
    page.write_text(replace_block(page.read_text(), name, body))


def _field(path: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", Path(path).read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return "unknown"
