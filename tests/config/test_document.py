from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kedge.config.document import DEPTH_MAX, DOCUMENT_BYTES_MAX, SCALAR_CHARS_MAX, parse_document
from kedge.config.problems import ConfigError


def problems(text: str | bytes) -> list[str]:
    source = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as error:
        parse_document(source, "e.yaml")
    return [str(problem) for problem in error.value.problems]


def test_values_are_those_of_yaml_and_every_key_has_its_line() -> None:
    document = parse_document(b"a:\n  b: [1, 2.5, true, ~]\n\nc:\n- d: x\n", "e.yaml")
    assert document.values == {"a": {"b": [1, 2.5, True, None]}, "c": [{"d": "x"}]}
    lines = {("a",): 1, ("a", "b"): 2, ("a", "b", 3): 2, ("c",): 4, ("c", 0): 5, ("c", 0, "d"): 5}
    assert lines.items() <= document.lines.items()


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)


@given(TREES)
def test_any_tree_that_yaml_writes_is_read_back(tree: object) -> None:
    class NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    text = yaml.dump(tree, Dumper=NoAliases).encode()
    assert parse_document(text, "e.yaml").values == tree


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    with suppress(ConfigError):
        assert parse_document(text, "e.yaml").where == "e.yaml"


@pytest.mark.parametrize("key", ["on", "yes", "no", "1", "0x10", "2013-01-01", "~"])
def test_a_key_is_the_text_as_written(key: str) -> None:
    assert parse_document(f"{key}: 1".encode(), "e.yaml").values == {key: 1}


def test_duplicate_keys_are_all_reported_with_the_first_one() -> None:
    assert problems('a: 1\n"1": 2\na: 3\n1: 4\nb: {c: 5, c: 6}') == [
        "e.yaml:3: a: given twice, first in line 1",
        "e.yaml:4: 1: given twice, first in line 2",
        "e.yaml:5: b.c: given twice, first in line 5",
    ]


def test_an_alias_is_refused_before_it_is_expanded() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
    )
    assert problems(bomb) == [
        "e.yaml:2: alias *a0: write the value out, aliases are not read",
    ]
    assert problems("a: &a [*a]") == [
        "e.yaml:1: alias *a: write the value out, aliases are not read"
    ]


def test_nesting_ends_at_its_limit() -> None:
    parse_document(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, "e.yaml")
    deep = b"[" * (DEPTH_MAX + 1)
    assert problems(deep) == [f"e.yaml:1: nested deeper than {DEPTH_MAX} levels"]
    assert problems(b"[" * 100_000) == [f"e.yaml:1: nested deeper than {DEPTH_MAX} levels"]


def test_a_document_ends_at_its_limit() -> None:
    whole = b"a: 1 #".ljust(DOCUMENT_BYTES_MAX, b"x")
    assert parse_document(whole, "e.yaml").values == {"a": 1}
    assert problems(whole + b"x") == [
        f"e.yaml: has {DOCUMENT_BYTES_MAX + 1} bytes, at most {DOCUMENT_BYTES_MAX} are read"
    ]


def test_a_scalar_ends_at_its_limit() -> None:
    assert parse_document(b"a: " + b"x" * SCALAR_CHARS_MAX, "e.yaml").values
    number = "1" + ":1" * SCALAR_CHARS_MAX
    assert problems(f"a: {number}") == [
        f"e.yaml:1: a: is longer than {SCALAR_CHARS_MAX} characters"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "e.yaml:1: no YAML:"),
        ("a: b: c", "e.yaml:1: no YAML: mapping values are not allowed"),
        ("a: 1\n---\nb: 2", "e.yaml:2: no YAML: but found another document"),
        ("a: \x07", "e.yaml: no YAML:"),
        (b"\xff", "e.yaml: is not UTF-8:"),
        ("a: 2024-13-45", "e.yaml:1: a: cannot read '2024-13-45' as timestamp; quote it"),
        ("a: !file x", "e.yaml:1: a: cannot read 'x' as !file; quote it"),
        ("? [x]\n: 1", "e.yaml:1: a key must be plain text"),
    ],
)
def test_what_cannot_be_read_has_its_line(text: str | bytes, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(expected)
