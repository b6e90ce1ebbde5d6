"""Log lines reach the process that writes them; one that does not read never stops the sender."""

from __future__ import annotations

import logging
import socket
import threading

import pytest

from kedge.process.logs import LINE_BYTES_MAX, SocketHandler, write_lines


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("kedge.test", logging.WARNING, "", 0, text, (), None)


def test_lines_are_written_until_the_sender_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    writer = threading.Thread(target=write_lines, args=(theirs,))
    writer.start()
    handler = SocketHandler(ours)
    handler.emit(record("first"))
    handler.emit(record("second ü"))
    ours.close()
    writer.join(10)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" WARNING kedge.test ")[1] for line in lines] == ["first", "second ü"]


def test_a_reader_that_does_not_read_loses_lines_and_they_are_counted() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handler = SocketHandler(ours)
    sent = 0
    while not handler.dropped:
        handler.emit(record("x" * 1_000))
        sent += 1
    handler.emit(record("lost too"))
    assert handler.dropped == 2
    for _ in range(sent - 1):
        theirs.recv(LINE_BYTES_MAX)
    handler.emit(record("heard again"))
    assert (
        theirs.recv(LINE_BYTES_MAX)
        .decode()
        .endswith("heard again [2 lines before this one were dropped]")
    )
    assert handler.dropped == 0


def test_a_line_of_any_length_is_cut_to_one_datagram() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    SocketHandler(ours).emit(record("y" * 100_000))
    assert len(theirs.recv(1 << 20)) == LINE_BYTES_MAX
