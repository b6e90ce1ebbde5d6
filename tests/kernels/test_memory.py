"""Reading objects in place: only where they lie as expected."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from kedge_kernels import memory


@pytest.mark.parametrize("contents", [b"", b"x", bytes(range(256)) * 1000])
def test_the_address_of_bytes_is_where_their_contents_are(contents: bytes) -> None:
    assert ctypes.string_at(memory.address_of(contents), len(contents)) == contents


def test_identities_are_where_the_objects_begin() -> None:
    objects = [b"a", b"bc"]
    assert memory.identities(objects).tolist() == [id(each) for each in objects]
    assert memory.identities([]).shape == (0,)


def test_unwritten_bytes_are_new_objects_of_the_given_size() -> None:
    for size in (0, 2, 1000, 1 << 21):
        first, second = memory.unwritten_bytes(size), memory.unwritten_bytes(size)
        assert len(first) == size
        assert size == 0 or memory.address_of(first) != memory.address_of(second)


def test_an_interpreter_with_other_objects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    memory.check_layout()
    monkeypatch.setattr(memory, "BYTES_TYPE", id(str))
    with pytest.raises(ImportError, match="64-bit CPython"):
        memory.check_layout()


def test_vectors_with_gaps_are_not_contiguous() -> None:
    items = np.zeros(8, np.uint8)
    assert memory.is_contiguous(items)
    assert memory.is_contiguous(items[3:6])
    assert memory.is_contiguous(items[::2][:1])
    assert not memory.is_contiguous(items[::2])
    assert not memory.is_contiguous(items[::-1])
