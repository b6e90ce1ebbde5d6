"""Starts and supervises the HTTP process: REST and /metrics must never disturb the gateway's loop.

The process itself is `control/http`. It ends when the pipe that it inherits is closed, so that it
cannot outlive a gateway that was killed.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass

from kedge.core.ports import SECRET_VARIABLE, LocalWay

log = logging.getLogger("kedge.control")

READY_LINE = re.compile(r"http=(\S+) metrics=(\S+)")
# A process that dies at once is started again after 0.1 s, 0.2 s, ... and at most every 5 s.
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 5.0
STOP_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class HttpAddresses:
    """Where the HTTP process listens, as HOST:PORT."""

    http: str
    metrics: str


class HttpProcess:
    """One child process, started again with the same ports whenever it dies before `stop`."""

    def __init__(
        self,
        gateway: LocalWay,
        host: str,
        http_port: int,
        metrics_port: int,
        loopback_control: bool,
    ) -> None:
        self._arguments = ["--grpc", gateway.target, "--host", host]
        if loopback_control:
            self._arguments.append("--control-from-loopback-only")
        # In the environment, which only this user can read; everyone can read a command line.
        self._environment = {**os.environ, SECRET_VARIABLE: gateway.secret}
        self._ports = (http_port, metrics_port)
        self._addresses: HttpAddresses | None = None
        self._is_first_attempt_over = threading.Event()
        self._stopping = threading.Event()
        self._may_restart = True
        self._process: subprocess.Popen[str] | None = None
        self._alive_pipe, self._write_end = os.pipe()
        self._thread = threading.Thread(target=self._supervise, name="http-process", daemon=True)

    def start(self) -> None:
        """Return at once; `wait_ready` tells when it serves."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> HttpAddresses | None:
        """The addresses, or None if the process could not start (its reason is on stderr)."""
        self._is_first_attempt_over.wait(timeout_s)
        return self._addresses

    def expect_end(self) -> None:
        """Do not start it again: who drains the gateway often signals all its processes at once.

        Safe in a signal handler: it takes no lock.
        """
        self._may_restart = False

    def reconnect(self, gateway: LocalWay) -> None:
        """The gateway was started again; use the way in that the new one has."""
        if self._environment[SECRET_VARIABLE] == gateway.secret:
            return
        self._arguments[1] = gateway.target
        self._environment[SECRET_VARIABLE] = gateway.secret
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """End the process: politely, and after `STOP_S_MAX` by force."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(STOP_S_MAX)
        os.close(self._write_end)
        os.close(self._alive_pipe)

    def _supervise(self) -> None:
        backoff_s = BACKOFF_S_FIRST
        while not self._stopping.is_set():
            has_served = self._run_once()
            if not self._is_first_attempt_over.is_set():
                self._is_first_attempt_over.set()
                return
            if self._stopping.is_set() or not self._may_restart:
                return
            backoff_s = BACKOFF_S_FIRST if has_served else min(2 * backoff_s, BACKOFF_S_MAX)
            log.warning("http_process.died restart_in_s=%.1f", backoff_s)
            self._stopping.wait(backoff_s)

    def _run_once(self) -> bool:
        """Run the process until it ends; whether it ever served."""
        http_port, metrics_port = self._ports
        command = [sys.executable, "-m", "kedge.control.http", *self._arguments]
        command += ["--http-port", str(http_port), "--metrics-port", str(metrics_port)]
        command += ["--parent-fd", str(self._alive_pipe)]
        self._process = process = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            pass_fds=[self._alive_pipe],
        )
        assert process.stdout is not None
        match = READY_LINE.match(process.stdout.readline())
        if match:
            self._addresses = HttpAddresses(match[1], match[2])
            # Whoever asked for any free port gets the same ones after a restart.
            self._ports = (_port(match[1]), _port(match[2]))
            self._is_first_attempt_over.set()
        process.wait()
        process.stdout.close()
        return match is not None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
