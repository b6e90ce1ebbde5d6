"""Figures of the machine and of one process from Linux's /proc; nothing on other systems.

Source: the manual page proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
PROC = Path("/proc")
# Columns of /proc/stat's first line in which the CPU did nothing: idle and iowait. Guest time, the
# last two, is counted in user time already.
IDLE, IOWAIT, GUEST = 3, 4, 8


@dataclass(frozen=True, slots=True)
class CpuTicks:
    """Clock ticks of all CPUs together since the machine started."""

    busy: int
    total: int

    def busy_share_since(self, earlier: CpuTicks) -> float:
        """0.0 to 1.0; 0.0 if no tick has passed."""
        return (self.busy - earlier.busy) / max(self.total - earlier.total, 1)


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """resident_bytes: physical memory now; cpu_s: user and system time since the start."""

    resident_bytes: int
    cpu_s: float


def read_cpu_ticks(proc: Path = PROC) -> CpuTicks | None:
    """None where there is no /proc."""
    try:
        line = (proc / "stat").read_text("ascii").partition("\n")[0]
    except OSError:
        return None
    ticks = [int(column) for column in line.split()[1:]][:GUEST]
    return CpuTicks(sum(ticks) - ticks[IDLE] - ticks[IOWAIT], sum(ticks))


def read_memory_bytes(proc: Path = PROC) -> Mapping[str, int]:
    """The fields of /proc/meminfo, such as MemTotal and MemAvailable; empty without /proc."""
    try:
        lines = (proc / "meminfo").read_text("ascii").splitlines()
    except OSError:
        return {}
    columns = (line.split() for line in lines)
    return {name.rstrip(":"): int(value) * KIB for name, value, *_ in columns}


def read_process(pid: int, proc: Path = PROC) -> ProcessFigures | None:
    """None if there is no such process."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name in brackets may hold blanks and brackets; behind the last one stand fields 3, 4, ...
    columns = stat.rpartition(b")")[2].split()
    user_ticks, system_ticks, resident_pages = (int(columns[field - 3]) for field in (14, 15, 24))
    return ProcessFigures(
        resident_pages * os.sysconf("SC_PAGE_SIZE"),
        (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK"),
    )
