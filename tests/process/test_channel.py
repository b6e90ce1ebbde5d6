"""Messages arrive whole and in order, with their descriptors; what is none ends the channel."""

from __future__ import annotations

import os
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.process.channel import FIELDS_BYTES_MAX, Channel, ChannelClosed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = st.dictionaries(st.text(max_size=10), JSON, max_size=5)


REPLY_BYTES_MAX = 1_000
WAIT_S = 10


def pair() -> tuple[Channel, Channel]:
    """A parent's end and its child's."""
    ours, theirs = Channel.pair()
    return ours, Channel(theirs)


@given(st.text(max_size=20), FIELDS, st.binary(max_size=5_000))
def test_a_message_arrives_as_it_was_sent(
    kind: str, fields: dict[str, object], blob: bytes
) -> None:
    ours, theirs = pair()
    ours.send(kind, fields, blob)
    message = theirs.receive()
    assert (message.kind, message.fields, message.blob) == (kind, fields, blob)
    ours.close()
    theirs.close()


def test_messages_larger_than_the_sockets_buffer_arrive_in_order() -> None:
    ours, theirs = pair()
    blobs = [bytes([number]) * 3_000_000 for number in range(3)]
    sender = threading.Thread(target=lambda: [ours.send("blob", {}, blob) for blob in blobs])
    sender.start()
    assert [theirs.receive().blob for _ in blobs] == blobs
    sender.join()


def test_descriptors_arrive_with_their_own_message_and_are_not_inheritable() -> None:
    ours, theirs = pair()
    read, write = os.pipe()
    ours.send("without")
    ours.send("with", {}, b"x", [write])
    ours.send("after")
    assert not theirs.receive().fds
    (received,) = theirs.receive().fds
    assert not theirs.receive().fds
    assert not os.get_inheritable(received)
    os.write(received, b"hello")
    assert os.read(read, 5) == b"hello"
    for fd in (read, write, received):
        os.close(fd)


def test_a_child_cannot_fill_its_parent_with_descriptors() -> None:
    ours, theirs = pair()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        theirs.send("unasked", {}, b"x", [0, 1, 2])
        assert not ours.receive().fds
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_that_come_with_nonsense_are_closed() -> None:
    ours, theirs = pair()
    ours._socket.sendmsg(
        [struct.pack("<II", 2, 0)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\0" * 4)]
    )
    ours._socket.send(b"{}")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ChannelClosed):
        theirs.receive()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "sizes", [(REPLY_BYTES_MAX + 1, 0), (2, REPLY_BYTES_MAX + 1), (0, (1 << 31) - 1)]
)
def test_a_child_cannot_send_more_than_its_parent_expects(sizes: tuple[int, int]) -> None:
    ours, theirs = Channel.pair(REPLY_BYTES_MAX)
    theirs.send(struct.pack("<II", *sizes))
    with pytest.raises(ChannelClosed, match="claims"):
        ours.receive()


@pytest.mark.parametrize("data", [b"", b"\4", struct.pack("<II", 4, 4) + b"["])
def test_a_message_that_does_not_come_whole_in_time_ends_the_channel(data: bytes) -> None:
    ours, theirs = Channel.pair()
    theirs.send(data)
    with pytest.raises(ChannelClosed, match="in time"):
        ours.receive(wait_s=0.01)
    theirs.close()


def test_whether_something_is_there_can_be_asked() -> None:
    ours, theirs = pair()
    assert not ours.wait(0)
    theirs.send("x")
    assert ours.wait(WAIT_S)
    ours.receive()
    assert not ours.wait(0)
    theirs.close()
    assert ours.wait(WAIT_S)
    ours.close()
    with pytest.raises(ChannelClosed):
        ours.wait(0)


def test_the_other_ends_end_is_an_error_for_both_directions() -> None:
    ours, theirs = pair()
    theirs.close()
    with pytest.raises(ChannelClosed):
        ours.receive()
    with pytest.raises(ChannelClosed):
        ours.send("anybody")


def test_closing_wakes_whoever_waits() -> None:
    ours, theirs = pair()
    woken = threading.Event()

    def wait() -> None:
        with pytest.raises(ChannelClosed):
            ours.receive()
        woken.set()

    threading.Thread(target=wait).start()
    theirs.close()
    assert woken.wait(10)


@pytest.mark.parametrize(
    "data",
    [
        b"short",
        struct.pack("<II", FIELDS_BYTES_MAX + 1, 0),
        struct.pack("<II", 4, 1 << 31) + b"[[]]",
        struct.pack("<II", 3, 0) + b"{}]",
        struct.pack("<II", 2, 0) + b"[]",
        struct.pack("<II", 6, 0) + b"[1,{}]",
        struct.pack("<II", 6, 0) + b'["a"]x',
        struct.pack("<II", 4, 0) + b"null",
        struct.pack("<II", 10_000, 0) + b"[" * 10_000,
        struct.pack("<II", 2, 0) + b"\xff\xff",
    ],
)
def test_what_is_no_message_ends_the_channel(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(ChannelClosed):
        Channel(ours).receive()
