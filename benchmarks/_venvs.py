"""A virtual environment per peer, made at first use under .venvs/ from pinned requirements."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from _harness import REPOSITORY, BenchmarkFailed, console

REQUIREMENTS = REPOSITORY / "benchmarks" / "requirements"
VENVS = REPOSITORY / ".venvs"
# Without their dependencies: only a binary inside the wheel is used.
BARE = frozenset({"triton", "perf_analyzer"})


class PeerAbsent(BenchmarkFailed):
    """A peer or tool that cannot be installed or started here; the message says why."""


def venv_for(name: str) -> Path:
    """The folder of the peer's environment, installed when it is new or its pins changed.

    Raises PeerAbsent with pip's last line when the installation fails.
    """
    venv, pins = VENVS / name, (REQUIREMENTS / f"{name}.txt").read_text()
    installed = venv / "installed-requirements.txt"
    if installed.exists() and installed.read_text() == pins:
        return venv
    with console.status(f"[bold]{name}[/]: making {venv.relative_to(REPOSITORY)}") as status:
        if not (venv / "bin" / "python").exists():
            shutil.rmtree(venv, ignore_errors=True)
            _follow([sys.executable, "-m", "venv", str(venv)], name, status.update)
        bare = ["--no-deps"] if name in BARE else []
        source = ["-r", str(REQUIREMENTS / f"{name}.txt")]
        command = [str(venv / "bin" / "python"), "-m", "pip", "install", *bare, *source]
        _follow([*command, "--progress-bar", "off"], name, status.update)
    installed.write_text(pins)
    return venv


def site_packages(venv: Path) -> Path:
    """Where the environment keeps its packages."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(venv)}))


def _follow(command: list[str], name: str, show: Callable[[str], None]) -> None:
    """Runs a command and shows its current line; its last lines are the error if it fails."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(line.strip())
            show(f"[bold]{name}[/]: {line.strip()[:90]}")
    if running.returncode != 0:
        raise PeerAbsent(f"not installed: {' / '.join(lines[-3:])}")
