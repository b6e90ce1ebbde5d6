"""A server as a tree of processes: started, paused, measured and surely ended. Linux only."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from _harness import BenchmarkFailed

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT_S = 15.0
# Its input ends when the benchmark is gone, however that happened: then it kills the session.
GUARD = ("sh", "-c", 'read _; exec pkill -KILL -s "$1"', "guard")


class ServerFailed(BenchmarkFailed):
    """A server ended, or did not say that it is ready.

    The first line of the message says it all; after it comes the end of the server's log.
    """


class ServerProcess:
    """One server and everything it spawned, from start() to stop().

    Its output goes to a file, so no pipe can fill up. The whole tree is followed through the
    parent ids; a process once seen is remembered, because an orphan loses its parent, and one that
    was never seen with its parent still belongs to the session.
    """

    def __init__(
        self, log_path: Path, *command: str | Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self._root = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            [*GUARD, str(self.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._started_ticks: dict[int, int] = {}

    @property
    def pid(self) -> int:
        """The id of the process that was started itself."""
        return self._root.pid

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that the server printed."""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-lines:])

    def wait_for_line(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The first line of output that matches; looks every 5 ms.

        Raises ServerFailed when the server ends before, or the time is up.
        """
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            ended = self._root.poll() is not None
            log = self._log_path.read_text(errors="replace")
            if found := re.search(pattern, log, re.MULTILINE):
                return found
            if ended:
                raise self._failed(f"ended with code {self._root.returncode}")
            time.sleep(0.005)
        raise self._failed(f"not ready after {timeout_s:.0f} s")

    def _failed(self, what: str) -> ServerFailed:
        tail = self.log_tail()
        return ServerFailed(f"{what}, last line: {tail.rpartition(chr(10))[2]}\n{tail}")

    def pids(self) -> list[int]:
        """The live processes of the tree."""
        children: dict[int, list[int]] = {}
        stats = {pid: stat for pid in _all_pids() if (stat := _read_stat(pid)) is not None}
        for pid, stat in stats.items():
            children.setdefault(stat.parent, []).append(pid)
        tree = {pid for pid, start in self._started_ticks.items() if _is_same(stats, pid, start)}
        # Once the root is reaped its number may be anyone's, and so may the session's.
        if self._root.returncode is None or self.pid not in stats:
            tree |= {pid for pid, stat in stats.items() if stat.session == self.pid}
        waiting = list(tree)
        while waiting:
            pid = waiting.pop()
            tree.add(pid)
            waiting.extend(child for child in children.get(pid, []) if child not in tree)
        tree &= stats.keys()
        self._started_ticks = {pid: stats[pid].started_ticks for pid in tree}
        return sorted(tree)

    def cpu_s(self, only: str | None = None) -> float:
        """User and system time of the tree since its start, in seconds; steps of 10 ms.

        only: count just the processes whose command line this pattern finds. The time of
        children that have ended is included, so a difference loses nothing.
        """
        total_ticks = 0
        for pid in self.pids():
            if only is None or re.search(only, _command_line(pid)):
                stat = _read_stat(pid)
                total_ticks += stat.cpu_ticks if stat else 0
        return total_ticks / TICKS_PER_S

    def pss_bytes(self) -> int:
        """Memory of the tree: proportional set size, so a shared page counts once in all."""
        return sum(_kib_field(pid, "smaps_rollup", "Pss") for pid in self.pids()) * 1024

    def rss_bytes(self) -> int:
        """Resident memory of the tree; a page that two processes share counts twice."""
        return sum(_kib_field(pid, "status", "VmRSS") for pid in self.pids()) * 1024

    def rss_peak_bytes(self) -> int:
        """The highest resident memory since the start or since reset_rss_peak()."""
        return sum(_kib_field(pid, "status", "VmHWM") for pid in self.pids()) * 1024

    def reset_rss_peak(self) -> None:
        """Lets the kernel start its peak of resident memory anew."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def pause(self) -> None:
        """Stops the whole tree where it is, so that its idling costs the others nothing."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Undoes pause()."""
        self._signal_all(signal.SIGCONT)

    def stop(self) -> int | None:
        """Ends the tree: SIGTERM for the root, then SIGKILL for all that is left.

        Returns the root's exit code, None if it had to be killed.
        """
        self.pids()
        self.resume()
        self._root.terminate()
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = self._root.wait(STOP_TIMEOUT_S)
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        while self.pids() and time.monotonic() < deadline_s:
            self._signal_all(signal.SIGKILL)
            self._root.poll()
            time.sleep(0.01)
        self._guard.kill()
        self._guard.communicate()
        return code

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C exit by SystemExit: every `finally` runs, no server stays."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_program(command: Sequence[str | Path]) -> None:
    """Runs a program that prepares something; raises ServerFailed with its last lines."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        last = lines[-1] if lines else "nothing was printed"
        text = "\n".join(lines[-12:])
        raise ServerFailed(f"{command[1]} ended with code {done.returncode}: {last}\n{text}")


def free_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 that were free a moment ago."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


class ProcStat:
    """The fields of /proc/PID/stat that matter here (proc(5): 4, 6, 14 to 17, 22)."""

    __slots__ = ("cpu_ticks", "parent", "session", "started_ticks")

    def __init__(self, text: str) -> None:
        # The command name may hold spaces and brackets; the fields after it start at number 3.
        fields = text.rpartition(")")[2].split()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.cpu_ticks = sum(int(field) for field in fields[11:15])
        self.started_ticks = int(fields[19])


def _read_stat(pid: int) -> ProcStat | None:
    try:
        return ProcStat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def _is_same(stats: Mapping[int, ProcStat], pid: int, started_ticks: int) -> bool:
    """Whether pid still is the process seen before, and not a later one with its number."""
    return pid in stats and stats[pid].started_ticks == started_ticks


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command_line(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def _kib_field(pid: int, file: str, name: str) -> int:
    """One `Name:  123 kB` figure of a file of /proc/PID; 0 once the process is gone."""
    try:
        text = Path(f"/proc/{pid}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0
