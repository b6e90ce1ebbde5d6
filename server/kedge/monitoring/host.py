"""What /proc says about this host and one process. Linux only, as the whole server is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

KIB = 1024
# Positions in /proc/PID/stat after the parenthesised name, which may itself hold blanks (proc(5)).
UTIME, STIME = 11, 12
# The columns of /proc/stat's first line: user nice system idle iowait irq softirq steal. What
# follows (guest, guest_nice) is contained in user and nice.
IDLE_COLUMNS, CPU_COLUMNS = slice(3, 5), slice(0, 8)


class CpuTicks(NamedTuple):
    """Clock ticks of all cores together since boot."""

    busy: int
    total: int


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One process: resident_bytes in memory, cpu_s spent in user and kernel mode."""

    resident_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host now. cpu_share: busy share of all cores since the reading before, 0 to 1.

    process: None when the process is gone.
    """

    cpu_share: float
    memory_total_bytes: int
    memory_used_bytes: int
    process: ProcessReading | None


class HostReader:
    """Reads /proc; remembers the CPU ticks of its last reading, the first being made here."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._ticks = self._read_ticks()

    def read(self, pid: int) -> HostReading:
        before, self._ticks = self._ticks, self._read_ticks()
        total_bytes, available_bytes = memory_bytes((self._proc / "meminfo").read_text())
        return HostReading(
            cpu_share(before, self._ticks),
            total_bytes,
            total_bytes - available_bytes,
            self._read_process(pid),
        )

    def _read_ticks(self) -> CpuTicks:
        return cpu_ticks((self._proc / "stat").read_text())

    def _read_process(self, pid: int) -> ProcessReading | None:
        folder = self._proc / str(pid)
        try:
            stat, statm = (folder / "stat").read_text(), (folder / "statm").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        ticks = int(fields[UTIME]) + int(fields[STIME])
        return ProcessReading(
            resident_bytes=int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            cpu_s=ticks / os.sysconf("SC_CLK_TCK"),
        )


def cpu_ticks(stat: str) -> CpuTicks:
    """stat: the text of /proc/stat."""
    ticks = [int(field) for field in stat.partition("\n")[0].split()[1:]][CPU_COLUMNS]
    return CpuTicks(busy=sum(ticks) - sum(ticks[IDLE_COLUMNS]), total=sum(ticks))


def cpu_share(before: CpuTicks, after: CpuTicks) -> float:
    """The busy share of the ticks between two readings, 0 to 1; 0 where no tick has passed."""
    passed = after.total - before.total
    if passed <= 0:
        return 0.0
    # The kernel lets iowait, and with it the idle sum, run backwards at times (proc(5)).
    return min(max((after.busy - before.busy) / passed, 0.0), 1.0)


def memory_bytes(meminfo: str) -> tuple[int, int]:
    """Total and available bytes. meminfo: the text of /proc/meminfo."""
    lines = (line.split() for line in meminfo.splitlines())
    kib = {fields[0]: int(fields[1]) for fields in lines}
    return kib["MemTotal:"] * KIB, kib["MemAvailable:"] * KIB
