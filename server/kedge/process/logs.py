"""Log lines on their way to the process that writes them.

A gateway that wrote to a full pipe would stop serving; it hands its lines over instead, and drops
and counts what the reader does not take.
"""

from __future__ import annotations

import logging
import socket
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# One datagram each; a longer line, such as a traceback, is cut.
LINE_BYTES_MAX = 32_768


class SocketHandler(logging.Handler):
    """Sends each formatted line as one datagram and never waits. `dropped` counts lost lines."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(FORMAT))
        self._socket = connection
        self._socket.setblocking(False)
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self.dropped:
                line = f"{line} [{self.dropped} lines before this one were dropped]"
            self._socket.send(line.encode(errors="replace")[:LINE_BYTES_MAX])
            self.dropped = 0
        except OSError:
            self.dropped += 1


def write_lines(connection: socket.socket) -> None:
    """Write every line that arrives to stderr until the other end closes; on its own thread."""
    with connection:
        while line := connection.recv(LINE_BYTES_MAX):
            sys.stderr.write(line.decode(errors="replace") + "\n")
            sys.stderr.flush()
