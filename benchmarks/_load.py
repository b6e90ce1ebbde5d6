"""The two load tools: h2load (Debian nghttp2-client) and perf_analyzer, run and read."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _harness import BenchmarkFailed
from _wire import METHOD_PATH, MODEL, grpc_frame

# Connections x streams, as square as can be: one connection would measure one HTTP/2 session,
# one stream per connection would measure the accept path.
CONNECTIONS_AND_STREAMS = {1: (1, 1), 4: (2, 2), 16: (4, 4), 64: (8, 8), 256: (16, 16)}
PERF_ANALYZER_WINDOW_MS = 2000
TOOL_TIMEOUT_S = 300.0


class LoadFailed(BenchmarkFailed):
    """A load tool failed, or a server refused requests under load."""


@dataclass(frozen=True)
class Load:
    """What one load saw from the client's side."""

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float


def h2load_version() -> str | None:
    """The version line of h2load, None if it is not installed."""
    if shutil.which("h2load") is None:
        return None
    return _run(["h2load", "--version"]).strip()


def h2load(address: str, message: bytes, in_flight: int, seconds: float) -> Load:
    """Keeps in_flight gRPC calls open for the given time; percentiles over every request.

    Raises LoadFailed for any HTTP status but 200. The gRPC status is in the trailers, which
    h2load does not read: compare the server's own count of successes.
    """
    connections, streams = CONNECTIONS_AND_STREAMS[in_flight]
    limit = ["-D", f"{round(seconds * 1000)}ms"]
    return _h2load(address, message, [*limit, "-c", str(connections), "-m", str(streams)])


def h2load_count(
    address: str,
    message: bytes,
    requests: int,
    connections: int,
    streams: int,
    deadline_ms: int = 0,
) -> Load:
    """As h2load(), for a number of requests instead of a time. deadline_ms: each call's own, 0 for
    none.
    """
    limit = ["-n", str(requests)]
    if deadline_ms:
        limit += ["-H", f"grpc-timeout: {deadline_ms}m"]
    return _h2load(address, message, [*limit, "-c", str(connections), "-m", str(streams)])


def _h2load(address: str, message: bytes, options: Sequence[str]) -> Load:
    with tempfile.TemporaryDirectory(prefix="kedge-load-") as folder:
        body, log = Path(folder, "body"), Path(folder, "log.tsv")
        body.write_bytes(grpc_frame(message))
        _run(_command(address, body, [*options, f"--log-file={log}"]))
        return read_h2load_log(log)


class BackgroundLoad:
    """An h2load that runs until stop(); nobody looks at what it measures."""

    def __init__(self, command: Sequence[str], folder: tempfile.TemporaryDirectory[str]) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def h2load_background(address: str, message: bytes, in_flight: int) -> BackgroundLoad:
    """Keeps in_flight gRPC calls open on one connection; whether they succeed is the caller's."""
    folder = tempfile.TemporaryDirectory(prefix="kedge-load-")
    body = Path(folder.name, "body")
    body.write_bytes(grpc_frame(message))
    limit = ["-D", f"{TOOL_TIMEOUT_S:.0f}s", "-c", "1", "-m", str(in_flight)]
    return BackgroundLoad(_command(address, body, limit), folder)


def _command(address: str, body: Path, options: Sequence[str]) -> list[str]:
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return ["h2load", *options, *headers, "-d", str(body), f"http://{address}{METHOD_PATH}"]


def read_h2load_log(log: Path) -> Load:
    """One line per request: start in us since the epoch, HTTP status, us until its end."""
    lines = np.loadtxt(log, dtype=np.int64, delimiter="\t", ndmin=2)
    if len(lines) == 0:
        raise LoadFailed("h2load got no answer at all")
    start_us, status, elapsed_us = lines.T
    if refused := int(np.count_nonzero(status != 200)):
        raise LoadFailed(f"{refused} of {len(lines)} requests got an HTTP status other than 200")
    seconds = float((start_us + elapsed_us).max() - start_us.min()) / 1e6
    p50_us, p99_us = np.percentile(elapsed_us, [50, 99])
    return Load(len(lines), len(lines) / seconds, float(p50_us), float(p99_us))


def perf_analyzer_version(venv: Path) -> str:
    """Its version line; raises LoadFailed if it does not run, as without Debian's libb64-0d."""
    return _run([str(venv / "bin" / "perf_analyzer"), "--version"], _with_cudart(venv)).strip()


def perf_analyzer(venv: Path, address: str, in_flight: int) -> Load:
    """Triton's own load tool over gRPC, until three windows of 2 s agree within 30 %.

    venv: where the wheels tritonclient 2.41.0 and nvidia-cuda-runtime-cu12 are installed.
    """
    with tempfile.TemporaryDirectory(prefix="kedge-load-") as folder:
        report = Path(folder, "report.csv")
        command = [str(venv / "bin" / "perf_analyzer"), "-m", MODEL, "-i", "grpc", "-u", address]
        window = ["--measurement-interval", str(PERF_ANALYZER_WINDOW_MS), "-s", "30", "-r", "6"]
        concurrency = ["--concurrency-range", f"{in_flight}:{in_flight}"]
        output = _run([*command, *window, *concurrency, "-f", str(report)], env=_with_cudart(venv))
        return read_perf_analyzer(report, output)


def _with_cudart(venv: Path) -> dict[str, str]:
    """perf_analyzer is linked with libcudart even when no GPU is used."""
    libraries = next(venv.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib"))
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


def read_perf_analyzer(report: Path, output: str) -> Load:
    """The one line of the CSV report; the number of requests stands in the text only."""
    if not report.exists():
        raise LoadFailed(f"perf_analyzer wrote no report: {output[-500:]}")
    with report.open(newline="") as lines:
        row = next(csv.DictReader(lines))
    counted = re.search(r"Request count: (\d+)", output)
    return Load(
        requests=int(counted[1]) if counted else 0,
        requests_per_s=float(row["Inferences/Second"]),
        p50_us=float(row["p50 latency"]),
        p99_us=float(row["p99 latency"]),
    )


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    """The tool's output; a tool that fails or hangs is ended and becomes LoadFailed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=TOOL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as slow:
        raise LoadFailed(f"{command[0]} took over {TOOL_TIMEOUT_S:.0f} s") from slow
    output = done.stdout + done.stderr
    if done.returncode != 0:
        raise LoadFailed(f"{command[0]} ended with code {done.returncode}: {output[-500:]}")
    return output
