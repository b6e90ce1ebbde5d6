"""A real `kedge serve` process for system tests, and Triton model repositories for it."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from support.torchscript import save

READY_LINE = re.compile(r"ready grpc=(\S+) http=(\S+) metrics=(\S+)\n")
READY_S_MAX = 60
EXIT_S_MAX = 30


@dataclass
class Server:
    """A running server; `log` is what it wrote to stderr."""

    process: subprocess.Popen[str]
    grpc: str
    http: str
    metrics: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self, module: str = "") -> list[int]:
        """The pids of its child processes that run `module`, or of all."""
        path = Path(f"/proc/{self.pid}/task")
        pids = [
            int(child)
            for task in path.iterdir()
            for child in (task / "children").read_text().split()
        ]
        return [pid for pid in pids if module in _command_line(pid)]

    def gateway(self) -> int:
        (pid,) = self.children("kedge.app.gateway")
        return pid

    def workers(self) -> list[int]:
        return self.children("kedge.app.worker")

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(EXIT_S_MAX)


@contextmanager
def serving(*arguments: object, folder: Path) -> Iterator[Server]:
    """`kedge serve ARGUMENTS` on free ports until the block ends."""
    log = folder / "stderr.log"
    command = [sys.executable, "-m", "kedge.cli", "serve", *map(str, arguments)]
    command += ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder
        )
    try:
        match = READY_LINE.fullmatch(_first_line(process))
        assert match, f"no ready line; stderr:\n{log.read_text()}"
        yield Server(process, match[1], match[2], match[3], log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(EXIT_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(READY_S_MAX):
            return ""
    return process.stdout.readline()


def add_model(
    repository: Path,
    name: str,
    module: torch.nn.Module,
    config: str,
    versions: Sequence[int] = (1,),
) -> Path:
    """Write NAME/config.pbtxt and NAME/VERSION/model.pt."""
    folder = repository / name
    for version in versions:
        save(module, folder / str(version) / "model.pt")
    (folder / "config.pbtxt").write_text(config)
    return folder


def tensor_config(
    inputs: dict[str, tuple[str, list[int]]],
    outputs: dict[str, tuple[str, list[int]]],
    max_batch_size: int = 8,
    more: str = "dynamic_batching {}",
) -> str:
    """A config.pbtxt; tensors as NAME: (TYPE without TYPE_, dims)."""

    def entries(kind: str, tensors: dict[str, tuple[str, list[int]]]) -> str:
        return "\n".join(
            f'{kind} [{{ name: "{name}" data_type: TYPE_{datatype} dims: {dims} }}]'
            for name, (datatype, dims) in tensors.items()
        )

    return (
        f'platform: "pytorch_libtorch"\nmax_batch_size: {max_batch_size}\n'
        f"{entries('input', inputs)}\n{entries('output', outputs)}\n{more}\n"
    )


def wait_until(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Whether `condition()` became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
