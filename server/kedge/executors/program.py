"""The graph of a torch.export file as JSON: checked, and stripped of what could become code.

torch turns this JSON into Python source, and evaluates expressions and names in it: an expression
of a shape goes through `eval`, an operator's name is looked up attribute by attribute from `torch`
on, names of nodes are pasted into source. So every string is refused unless its place is known and
its content cannot be anything else than what torch itself writes there.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kedge.core.errors import LoadFailed
from kedge.executors.expressions import expression_problems

DEPTH_MAX = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,1023}")
# Parameters and modules: names joined by dots; `L['x']`-like sources do not occur.
_DOTTED = re.compile(r"[A-Za-z0-9_.@:+-]{0,1024}")
_TENSOR_OPERATOR = re.compile(
    r"torch\.ops\.([a-z_]+)"
    r"\.((?!__)[A-Za-z0-9_]+|__i?(?:and|or|xor|lshift|rshift)__)"
    r"\.((?!_)[A-Za-z0-9_]+)"
)
_NAMESPACES = frozenset({"aten", "prims", "quantized", "quantized_decomposed", "torchvision"})
# aten::from_file maps a file of the caller's choice into memory, and makes it if it is not there.
_OPERATORS_REFUSED = frozenset({"from_file", "save"})
_SYMBOLIC_OPERATORS = frozenset(
    """
    _operator.add _operator.and_ _operator.eq _operator.floordiv _operator.ge _operator.getitem
    _operator.gt _operator.le _operator.lshift _operator.lt _operator.mod _operator.mul
    _operator.ne _operator.neg _operator.not_ _operator.or_ _operator.pos _operator.pow
    _operator.rshift _operator.sub _operator.truediv _operator.xor
    math.ceil math.floor math.sqrt math.trunc
    torch.sym_float torch.sym_fresh_size torch.sym_int torch.sym_ite torch.sym_max torch.sym_min
    torch.sym_not torch.sym_sqrt torch.sym_sum torch._sym_sqrt
    """.split()  # noqa: SIM905 - one name a line fills the screen
)
_HIGHER_ORDER_OPERATORS = {
    f"torch.ops.higher_order.{name}"
    for name in (
        "associative_scan",
        "cond",
        "map_impl",
        "scan",
        "while_loop",
        "wrap_with_autocast",
        "wrap_with_set_grad_enabled",
    )
}
_TREES = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
# Text that torch only ever quotes: arguments of operators, such as the equation of an einsum.
_QUOTED = frozenset({"as_string", "as_strings"})
# Nothing of it is needed to run: traces and origins of nodes.
_STRIPPED: dict[str, Any] = {"metadata": {}}


def sanitized_program(text: bytes, where: str) -> tuple[bytes, Any]:
    """The JSON of `models/NAME.json`, safe to be read by torch, and its guards, unread.

    Raises LoadFailed with `where`, the place inside, and what stands there.
    """
    program = parse_json(text, where)
    if not isinstance(program, dict):
        raise LoadFailed(f"{where}: expected a mapping")
    # torch compiles guards as they stand; they are read apart, by rules of their own.
    guards = program.pop("guards_code", [])
    _Checker(where).check(program, (), 0)
    return json.dumps({**program, "guards_code": []}).encode(), guards


def sanitized_payloads(text: bytes, folder: str, where: str) -> tuple[bytes, set[str]]:
    """The JSON of a weights or constants configuration, and the names of the raw entries in it.

    Raises LoadFailed for every payload that is not the raw bytes of a tensor.
    """
    document = parse_json(text, where)
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise LoadFailed(f"{where}: expected a mapping 'config'")
    names: set[str] = set()
    for name, payload in config.items():
        if not isinstance(payload, dict):
            raise LoadFailed(f"{where}: '{name}': expected a mapping")
        entry = payload.get("path_name")
        if not isinstance(entry, str) or not re.fullmatch(r"(weight|tensor)_[0-9]{1,9}", entry):
            raise LoadFailed(
                f"{where}: '{name}' is kept in entry '{folder}{entry}', which is a pickled or "
                "custom object: only raw tensors are loaded"
            )
        if payload.get("use_pickle") is not False or not isinstance(
            payload.get("tensor_meta"), dict
        ):
            raise LoadFailed(
                f"{where}: entry '{folder}{entry}' is a pickled tensor, which is never loaded: "
                "export the model with plain tensors"
            )
        names.add(entry)
    _Checker(where).check(document, (), 0)
    return json.dumps(document).encode(), names


def parse_json(text: bytes, where: str) -> Any:
    """Parsed JSON. Raises LoadFailed, also for what Python's parser reads and JSON has not."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise LoadFailed(f"{where}: cannot be read as JSON: {error}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key is there twice")
    return mapping


class _Checker:
    """Walks one document; what it passes is changed in place where it is stripped."""

    def __init__(self, where: str) -> None:
        self._where = where

    def check(self, value: Any, path: tuple[str, ...], depth: int) -> None:
        """Raises LoadFailed at the first thing that is not allowed."""
        if depth > DEPTH_MAX:
            raise self._refusal(path, f"nested deeper than {DEPTH_MAX} levels")
        if isinstance(value, dict):
            for key in value.keys() & _STRIPPED.keys():
                value[key] = _STRIPPED[key]
            for key, item in value.items():
                if not _DOTTED.fullmatch(key):
                    raise self._refusal(path, f"a name of other than letters and digits: {key!r}")
                self.check(item, (*path, key), depth + 1)
        elif isinstance(value, list):
            for item in value:
                self.check(item, path, depth + 1)
        elif isinstance(value, str):
            self._check_text(value, path)
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise self._refusal(path, "an integer of more than 64 bits")

    def _check_text(self, text: str, path: tuple[str, ...]) -> None:
        key = path[-1] if path else ""
        if key in _QUOTED:
            return
        if key == "expr_str":
            problem = next(expression_problems(text), None)
            if problem:
                raise self._refusal(path, f"{problem} in {text[:80]!r}")
        elif key in ("target", "as_operator"):
            if not is_operator(text):
                raise self._refusal(path, f"{text[:80]!r} is no operator that a model may call")
        elif key in ("in_spec", "out_spec"):
            self._check_tree(text, path)
        elif key in ("name", "as_name", "forward_arg_names"):
            # Pasted into Python source as names; "" stands for an argument by position.
            if text and not _NAME.fullmatch(text):
                raise self._refusal(path, f"expected a name, got {text[:80]!r}")
        elif not _DOTTED.fullmatch(text):
            raise self._refusal(path, f"unexpected text {text[:80]!r}")

    def _check_tree(self, text: str, path: tuple[str, ...]) -> None:
        """How arguments and results nest: `[1, {"type", "context", "children_spec"}]`."""
        tree = parse_json(text.encode(), f"{self._where}: {'.'.join(path)}")
        if not isinstance(tree, list) or len(tree) != 2 or tree[0] != 1:
            raise self._refusal(path, "expected a tree of version 1")
        self._check_node(tree[1], path, 0)

    def _check_node(self, node: Any, path: tuple[str, ...], depth: int) -> None:
        if depth > DEPTH_MAX or not isinstance(node, dict):
            raise self._refusal(path, "expected a tree")
        if node.keys() != {"type", "context", "children_spec"}:
            raise self._refusal(path, "expected type, context and children_spec")
        kind, context, children = node["type"], node["context"], node["children_spec"]
        if kind is None:
            if context is not None or children != []:
                raise self._refusal(path, "a leaf with content")
            return
        if kind not in _TREES:
            raise self._refusal(path, f"a {str(kind)[:80]!r}: expected one of {sorted(_TREES)}")
        keys = parse_json(context.encode(), self._where) if isinstance(context, str) else False
        if kind in ("builtins.tuple", "builtins.list"):
            if keys is not None:
                raise self._refusal(path, f"a {kind} with a context")
        elif not isinstance(keys, list) or not all(
            isinstance(key, str) and _NAME.fullmatch(key) for key in keys
        ):
            raise self._refusal(path, f"a {kind} whose keys are not names")
        if not isinstance(children, list):
            raise self._refusal(path, "children_spec: expected a list")
        for child in children:
            self._check_node(child, path, depth + 1)

    def _refusal(self, path: tuple[str, ...], problem: str) -> LoadFailed:
        place = ".".join(path[-6:])
        return LoadFailed(f"{self._where}: {place}: {problem}" if place else problem)


def is_operator(name: str) -> bool:
    """Whether a graph may call it: tensor operators of torch's own, and arithmetic of shapes."""
    if name in _SYMBOLIC_OPERATORS or name in _HIGHER_ORDER_OPERATORS:
        return True
    match = _TENSOR_OPERATOR.fullmatch(name)
    return match is not None and match[1] in _NAMESPACES and match[2] not in _OPERATORS_REFUSED
