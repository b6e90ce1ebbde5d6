"""The HTTP process as the gateway starts it, and plain requests to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

END_S_MAX = 30


class Answer(NamedTuple):
    """headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HttpProcess:
    """A running process. http, metrics: HOST:PORT from its ready line; both "" if it gave none."""

    def __init__(self, grpc: str, *options: str, http_port: int = 0) -> None:
        read_end, self._write_end = os.pipe()
        program = [sys.executable, "-m", "kedge.control.http", "--grpc", grpc, *options]
        program += ["--http-port", str(http_port), "--metrics-port", "0"]
        program += ["--parent-fd", str(read_end)]
        self.process = subprocess.Popen(
            program,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[read_end],
        )
        os.close(read_end)
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        fields = dict(field.split("=") for field in self.ready_line.split())
        self.http, self.metrics = fields.get("http", ""), fields.get("metrics", "")

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        address: str = "",
    ) -> Answer:
        """One request on a connection of its own; a mapping is sent as JSON."""
        connection = HTTPConnection(address or self.http, timeout=20)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            given = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, given, response.read())
        finally:
            connection.close()

    def lose_parent(self) -> None:
        """What a process sees whose parent was killed: the pipe has nobody at its other end."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    def wait(self) -> tuple[int, str]:
        """The exit code and what it wrote to stderr, once it has ended."""
        _, errors = self.process.communicate(timeout=END_S_MAX)
        return self.process.returncode, errors


@contextmanager
def running_http(grpc: str, *options: str, http_port: int = 0) -> Iterator[HttpProcess]:
    """A process that has printed its ready line, or ended; ended when the block is left."""
    process = HttpProcess(grpc, *options, http_port=http_port)
    try:
        yield process
    finally:
        process.lose_parent()
        process.process.terminate()
        process.wait()
