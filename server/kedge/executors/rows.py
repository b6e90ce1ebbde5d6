"""Batches brought to the row counts that a model runs at: padded with zeros, or cut into parts.

For programs compiled for one batch size, for declared buckets, and for answers that must not depend
on the batch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import torch

from kedge.executors.tensors import Forward


def at_sizes(forward: Forward, sizes: Sequence[int]) -> Forward:
    """`forward` for batches of any number of rows, called only with a number of `sizes`.

    sizes: ascending, at least one; a `range` will do. A batch gets the smallest size that holds it,
    with zeros behind its rows; one larger than all is run in parts. Rows beyond the batch are cut
    off every answer that has that many.
    """
    most = sizes[-1]

    def run(*arguments: object) -> object:
        rows = _rows(arguments[0])
        if rows in sizes:
            return forward(*arguments)
        if rows <= most:
            return _run_at(forward, arguments, rows, sizes[bisect_left(sizes, rows)])
        parts = []
        for start in range(0, rows, most):
            part = [_cut(argument, start, start + most) for argument in arguments]
            count = min(most, rows - start)
            parts.append(_run_at(forward, part, count, sizes[bisect_left(sizes, count)]))
        return _joined(parts)

    return run


def _run_at(forward: Forward, arguments: Sequence[object], rows: int, size: int) -> object:
    if size == rows:
        return forward(*arguments)
    answer = forward(*(_padded(argument, rows, size) for argument in arguments))
    return _each(lambda value: _cut(value, 0, rows) if _rows(value) == size else value, answer)


def _rows(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.shape[0] if value.ndim else -1
    return len(value) if isinstance(value, list) else -1


def _padded(value: object, rows: int, size: int) -> object:
    if isinstance(value, torch.Tensor):
        padded = value.new_zeros((size, *value.shape[1:]))
        padded[:rows] = value
        return padded
    assert isinstance(value, list)
    # Strings nest: an empty row has as many strings as the others, so the last one is repeated.
    return value + value[-1:] * (size - rows)


def _cut(value: object, start: int, end: int) -> object:
    assert isinstance(value, (torch.Tensor, list))
    return value[start:end]


def _each(change: Callable[[object], object], answer: object) -> object:
    """`change` on every output, whatever holds them."""
    if isinstance(answer, Mapping):
        return {name: change(value) for name, value in answer.items()}
    if isinstance(answer, tuple):
        return tuple(map(change, answer))
    if isinstance(answer, list) and any(isinstance(item, torch.Tensor) for item in answer):
        return [change(value) for value in answer]
    return change(answer)


def _joined(parts: Sequence[object]) -> object:
    """The answers of the parts as if they were one batch's."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _joined([_item(part, name) for part in parts]) for name in first}
    if isinstance(first, tuple) or (
        isinstance(first, list) and any(isinstance(item, torch.Tensor) for item in first)
    ):
        return tuple(_joined([_item(part, i) for part in parts]) for i in range(len(first)))
    if isinstance(first, torch.Tensor):
        return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
    return [item for part in parts if isinstance(part, list) for item in part]


def _item(answer: object, key: object) -> object:
    return answer[key]  # type: ignore[index]
