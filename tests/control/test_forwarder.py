"""Calls that are no inference reach the control process and their answers the callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kedge.control import forwarder
from kedge.control.forwarder import CallForwarder
from kedge.core.errors import ServeError, Unavailable, UnknownModel
from kedge.process.channel import FIELDS_BYTES_MAX, Channel, Message

WAIT_S = 10
COUNTED = 3


class Scene:
    """A forwarder and the control process' end of its channel."""

    def __init__(self, counters: Mapping[str, Any] | None = None) -> None:
        self.control, theirs = Channel.pair()
        self.gateway = Channel(theirs)
        self.answers: list[bytes | ServeError] = []
        self.forwarder = CallForwarder(
            self.gateway, frozenset({COUNTED}), lambda: counters or {"versions": {}}
        )

    def call(self, method: int, payload: bytes) -> None:
        self.forwarder.forward(method, payload, self.answers.append)

    def take(self) -> Message:
        return self.control.receive(WAIT_S)

    def answer(self, message: Message, result: bytes = b"", error: list[str] | None = None) -> None:
        fields = {"call": message.fields["call"], "error": error}
        self.forwarder.answer(Message("answer", fields, result))


def test_each_answer_reaches_its_own_caller_in_any_order() -> None:
    scene = Scene()
    scene.forwarder.start()
    scene.call(1, b"one")
    scene.call(2, b"two")
    first, second = scene.take(), scene.take()
    assert [(m.fields["method"], m.blob) for m in (first, second)] == [(1, b"one"), (2, b"two")]
    scene.answer(second, b"TWO")
    scene.answer(first, error=["unknown_model", "none such"])
    assert scene.answers[0] == b"TWO"
    assert isinstance(scene.answers[1], UnknownModel)
    scene.answer(first, b"again")
    assert len(scene.answers) == 2


def test_only_calls_that_need_them_take_the_counters_along() -> None:
    scene = Scene({"versions": {"a#1": {}}})
    scene.forwarder.start()
    scene.call(COUNTED, b"")
    scene.call(COUNTED + 1, b"")
    assert scene.take().fields["counters"] == {"versions": {"a#1": {}}}
    assert scene.take().fields["counters"] == {}


def test_whoever_asks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "CALLS_MAX", 2)
    scene = Scene()
    for _ in range(3):
        scene.call(1, b"")
    (refusal,) = scene.answers
    assert isinstance(refusal, Unavailable)


def test_a_call_that_cannot_be_sent_is_refused_and_the_next_one_goes_on() -> None:
    """Of so many versions that their counters are no message any more."""
    counters = {"versions": {"x" * FIELDS_BYTES_MAX: {}}}
    scene = Scene(counters)
    scene.forwarder.start()
    scene.call(COUNTED, b"too much")
    scene.call(1, b"next")
    assert scene.take().blob == b"next"
    (refusal,) = scene.answers
    assert isinstance(refusal, Unavailable)
    scene.call(COUNTED, b"")
    scene.call(1, b"")
    assert scene.take().fields["method"] == 1


def test_the_counters_of_a_thousand_versions_are_one_message() -> None:
    sizes = {
        str(rows): {
            name: {"count": 10**9, "ns": 10**15}
            for name in ("compute_input", "compute_infer", "compute_output")
        }
        for rows in range(1, 65)
    }
    scene = Scene({"versions": {f"model_{n}:1#{n}": {"batch_sizes": sizes} for n in range(1000)}})
    scene.forwarder.start()
    scene.call(COUNTED, b"")
    assert len(scene.take().fields["counters"]["versions"]) == 1000
    assert not scene.answers
