"""A `kedge serve` of our own: started, found by its ready line, and ended by SIGTERM."""

from __future__ import annotations

import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

READY_S_MAX = 60.0
DRAIN_S_MAX = 30.0


class ServerFailed(RuntimeError):
    """The server did not get ready, or did not end with exit code 0."""


@contextmanager
def serving(endpoint: Path) -> Iterator[dict[str, str]]:
    """Serves an endpoint file on free ports and yields {"grpc": "host:port", "http": ..., ...}.

    Leaving the block drains the server. Raises ServerFailed, with the end of the server's log,
    unless it was ready within READY_S_MAX and ended with 0 within DRAIN_S_MAX.
    """
    with tempfile.TemporaryDirectory(prefix="kedge-demo-") as folder:
        log_path = Path(folder) / "server.log"
        with log_path.open("wb") as log, _started(endpoint, Path(folder), log) as server:
            try:
                yield _addresses(server, log_path)
            finally:
                server.terminate()
                code = _exit_code(server)
        if code != 0:
            raise ServerFailed(f"kedge serve ended with exit code {code}:\n{_end_of(log_path)}")


def _started(endpoint: Path, folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    ports = [word for name in ("grpc", "http", "metrics") for word in (f"--{name}-port", "0")]
    command = [sys.executable, "-m", "kedge.cli", "serve", str(endpoint), *ports]
    command += ["--state", str(folder / "state")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)


def _addresses(server: subprocess.Popen[bytes], log_path: Path) -> dict[str, str]:
    """What the one line on stdout says: `ready grpc=HOST:PORT http=HOST:PORT metrics=HOST:PORT`."""
    assert server.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(server.stdout, selectors.EVENT_READ)
        line = server.stdout.readline().decode() if selector.select(READY_S_MAX) else ""
    if not line.startswith("ready "):
        raise ServerFailed(f"kedge serve did not get ready:\n{_end_of(log_path)}")
    return dict(word.split("=", 1) for word in line.split()[1:])


def _exit_code(server: subprocess.Popen[bytes]) -> int:
    try:
        return server.wait(DRAIN_S_MAX)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def _end_of(log_path: Path, lines_max: int = 15) -> str:
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-lines_max:])
