"""Batches at other sizes than their own: the same answers, each row at its place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kedge.executors.rows import at_sizes


@given(
    rows=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=4, unique=True).map(sorted),
)
def test_every_batch_runs_at_a_listed_size_and_keeps_its_rows(rows: int, sizes: list[int]) -> None:
    seen: list[int] = []

    def forward(x: torch.Tensor, names: list[str]) -> dict[str, object]:
        assert len(x) == len(names)
        seen.append(len(x))
        return {"twice": 2 * x, "names": [name.upper() for name in names], "all": torch.ones(0)}

    x = torch.arange(rows * 2.0).reshape(rows, 2)
    names = [f"n{i}" for i in range(rows)]
    answer = at_sizes(forward, sizes)(x, names)
    assert isinstance(answer, dict)
    assert torch.equal(answer["twice"], 2 * x)
    assert answer["names"] == [name.upper() for name in names]
    assert set(seen) <= set(sizes)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: (t, t + 1), lambda t: [t, t + 1]])
def test_one_tensor_a_tuple_and_a_list_are_cut_alike(wrap) -> None:  # type: ignore[no-untyped-def]
    for rows in (1, 3, 4, 9):
        x = torch.arange(float(rows))
        answer = at_sizes(wrap, (4,))(x)
        expected = wrap(x)
        if isinstance(expected, torch.Tensor):
            assert torch.equal(answer, expected)
        else:
            assert all(torch.equal(a, b) for a, b in zip(answer, expected, strict=True))


def test_padding_is_zeros() -> None:
    seen: list[torch.Tensor] = []
    at_sizes(lambda x: seen.append(x) or x, (4,))(torch.ones(2))
    assert seen[0].tolist() == [1, 1, 0, 0]
