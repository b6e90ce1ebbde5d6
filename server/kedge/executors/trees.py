"""How a program's arguments and results nest, as torch writes it: flat tensors in and out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from kedge.core.errors import LoadFailed
from kedge.core.values import ModelSchema


def argument_order(in_spec: str, schema: ModelSchema) -> list[int]:
    """For each tensor that a program takes, which input of the schema it is.

    By name where the program takes all its inputs by name, else by position. Raises LoadFailed if
    their number is not the declared one.
    """
    names = _leaf_names(_tree(in_spec))
    declared = [spec.name for spec in schema.inputs]
    if len(names) != len(declared):
        raise LoadFailed(f"{len(declared)} inputs are declared, the model takes {len(names)}")
    if sorted(map(str, names)) == sorted(declared):
        return [declared.index(str(name)) for name in names]
    return list(range(len(names)))


def result_of(out_spec: str) -> Callable[[Sequence[object]], object]:
    """Makes of a program's flat outputs what the module itself would answer: one tensor, a dict by
    name, or a tuple.
    """
    tree = _tree(out_spec)
    names = _leaf_names(tree)
    if tree["type"] is None:
        return lambda outputs: outputs[0]
    if all(isinstance(name, str) for name in names):
        return lambda outputs: dict(zip(names, outputs, strict=True))
    return tuple


def _tree(spec: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(spec)[1]
    return tree


def _leaf_names(tree: dict[str, Any], name: object = None) -> list[object]:
    """The key of each leaf in its dict; None for one that stands in a list or tuple."""
    if tree["type"] is None:
        return [name]
    keys: Sequence[object] = [None] * len(tree["children_spec"])
    if tree["type"] in ("builtins.dict", "collections.OrderedDict"):
        keys = json.loads(tree["context"])
    pairs = zip(tree["children_spec"], keys, strict=True)
    return [leaf for child, key in pairs for leaf in _leaf_names(child, key)]
