"""A client's JSON, of which nothing is believed."""

from __future__ import annotations

import contextlib
import gc

import pytest

from kedge.control.http.json_fields import checked, optional, parsed_object, required
from kedge.core.errors import InvalidRequest


def test_a_field_is_returned_if_it_has_the_right_type() -> None:
    with parsed_object('{"name": "ü", "flag": false}'.encode()) as document:
        assert required("request", document, "name", str) == "ü"
        assert optional("request", document, "flag", True) is False
        assert optional("request", document, "other", True) is True


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, bool, "here: expected true or false, got a number"),
        (None, str, "here: expected a string, got null"),
        ("a", list, "here: expected a list, got a string"),
        ([], dict, "here: expected an object, got a list"),
        (True, dict, "here: expected an object, got true or false"),
        ({}, str, "here: expected a string, got an object"),
    ],
)
def test_another_type_is_refused_in_the_words_of_json(
    value: object, kind: type, expected: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked("here", value, kind)
    assert str(refused.value) == expected


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="inputs: 'name' is missing"):
        required("inputs", {}, "name", str)


def test_half_a_surrogate_pair_is_no_text() -> None:
    with parsed_object(rb'{"whole": "\ud83d\ude00", "half": "\ud83d"}') as document:
        assert required("request", document, "whole", str) == "😀"
        with pytest.raises(InvalidRequest, match="'half': expected Unicode text"):
            required("request", document, "half", str)


@pytest.mark.parametrize("text", [b"{}", b"{nope"])
def test_the_cycle_collector_rests_for_the_length_of_the_block_only(text: bytes) -> None:
    with contextlib.suppress(InvalidRequest), parsed_object(text):
        assert not gc.isenabled()
    assert gc.isenabled()
