"""The inbox by itself: order, bounds, cancellation, from one thread to another."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.core.errors import QueueFull
from kedge.core.ports import Call, Drain
from kedge.front.inbox import INFER, Inbox

NOTHING = Drain([], [], [], [])


def test_calls_come_in_order_and_in_columns() -> None:
    inbox = Inbox(100)
    inbox.put(1, INFER, b"a")
    inbox.put(2, 7, b"b")
    inbox.put(3, INFER, b"c")
    assert inbox.take(10, 0) == ([1, 3], [b"a", b"c"], [Call(2, 7, b"b")], [])
    assert inbox.take(10, 0) == NOTHING


def test_payloads_wait_up_to_the_bound_and_leave_room_when_taken() -> None:
    inbox = Inbox(bytes_max=10)
    inbox.put(1, INFER, bytes(6))
    inbox.put(2, INFER, bytes(4))
    with pytest.raises(QueueFull, match="10 bytes wait in front of the queues, this message has 1"):
        inbox.put(3, INFER, b"x")
    assert inbox.take(1, 0) == ([1], [bytes(6)], [], [])
    inbox.put(4, INFER, bytes(6))
    assert inbox.waiting_bytes == 10


def test_a_message_above_the_bound_passes_alone() -> None:
    inbox = Inbox(bytes_max=10)
    inbox.put(1, INFER, bytes(50))
    with pytest.raises(QueueFull):
        inbox.put(2, INFER, b"x")
    inbox.take(10, 0)
    assert inbox.waiting_bytes == 0


def test_a_call_cancelled_before_it_is_taken_is_never_seen_and_frees_its_bytes() -> None:
    inbox = Inbox(bytes_max=10)
    inbox.put(1, INFER, bytes(10))
    inbox.cancel(1)
    inbox.put(2, INFER, bytes(10))
    assert inbox.take(10, 0) == ([2], [bytes(10)], [], [])
    inbox.cancel(2)
    assert inbox.take(10, 0) == ([], [], [], [2])


def test_whoever_waits_is_woken_by_a_call_a_cancellation_and_the_end() -> None:
    inbox = Inbox(100)
    inbox.put(1, INFER, b"")
    inbox.take(1, 0)
    for act, expected in (
        (lambda: inbox.put(2, INFER, b"x"), ([2], [b"x"], [], [])),
        (lambda: inbox.cancel(1), ([], [], [], [1])),
        (inbox.close, None),
    ):
        received: list[Drain | None] = []
        thread = threading.Thread(target=lambda into=received: into.append(inbox.take(9, 60_000)))
        thread.start()
        act()
        thread.join(10)
        assert received == [expected]
    assert inbox.take(9, 60_000) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 30)),
            st.tuples(st.just("cancel"), st.integers(0, 40)),
            st.tuples(st.just("take"), st.integers(1, 5)),
        ),
        max_size=60,
    )
)
def test_it_behaves_as_a_plain_list_would(steps: list[tuple[str, int]]) -> None:
    inbox, model, cancelled, taken = Inbox(bytes_max=64), [], [], []
    for call_id, (step, number) in enumerate(steps):
        if step == "put":
            fits = not model or sum(size for _, size in model) + number <= 64
            if fits:
                inbox.put(call_id, INFER, bytes(number))
                model.append((call_id, number))
            else:
                with pytest.raises(QueueFull):
                    inbox.put(call_id, INFER, bytes(number))
        elif step == "cancel" and number in [each for each, _ in model]:
            inbox.cancel(number)
            model = [(each, size) for each, size in model if each != number]
        elif step == "cancel" and number in taken:
            inbox.cancel(number)
            taken.remove(number)
            cancelled.append(number)
        elif step == "take":
            gone, cancelled = cancelled[:number], cancelled[number:]
            calls, model = model[: number - len(gone)], model[number - len(gone) :]
            drain = inbox.take(number, 0)
            assert drain is not None
            assert drain.cancelled == gone
            assert drain.infer_ids == [each for each, _ in calls]
            taken += drain.infer_ids
        assert inbox.waiting_bytes == sum(size for _, size in model)
