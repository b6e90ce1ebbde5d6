"""Guards of a torch.export file: what sizes must obey beyond their ranges for its answers to hold.

A program keeps the branch that its example took, so `n % 8 == 0` may decide what it computes. torch
compiles guards as the file has them; here each must be arithmetic of the inputs' sizes, and nothing
else is evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from types import CodeType

from kedge.core.errors import InvalidRequest, LoadFailed

GUARD_CHARS_MAX = 4096
_FUNCTIONS: dict[str, Callable[..., object]] = {"max": max, "min": min, "abs": abs}
_OPERATORS = (
    ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Div,
    ast.USub, ast.UAdd, ast.Not, ast.And, ast.Or,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip

Sizes = Mapping[str, Sequence[int]]


class Guards:
    """All guards of one program, each read once. Raises LoadFailed for one that is not arithmetic
    of the sizes of `inputs`.
    """

    def __init__(self, guards: Sequence[str], inputs: Sequence[str]) -> None:
        self._guards = [(text, _compiled(text, inputs)) for text in guards]

    def __bool__(self) -> bool:
        return bool(self._guards)

    def broken(self, sizes: Sizes) -> str | None:
        """The first guard that does not hold for these sizes; None if all do."""
        names = {"L": sizes, **_FUNCTIONS}
        for text, code in self._guards:
            try:
                # Only what `_check` let through: subscripts of `L`, numbers, arithmetic.
                holds = eval(code, {"__builtins__": {}}, names)  # noqa: S307
            except (ZeroDivisionError, IndexError, KeyError):
                holds = False
            if not holds:
                return text
        return None

    def check(self, sizes: Sizes) -> None:
        """Raises InvalidRequest with the guard that does not hold."""
        broken = self.broken(sizes)
        if broken is not None:
            raise InvalidRequest(f"the model was exported for other sizes: expected {broken}")


def _compiled(text: str, inputs: Sequence[str]) -> CodeType:
    try:
        if not isinstance(text, str) or len(text) > GUARD_CHARS_MAX:
            raise ValueError("too long")
        tree = ast.parse(text.strip(), mode="eval")
        body = _checked(tree.body, inputs)
        return compile(ast.fix_missing_locations(ast.Expression(body)), "guard", "eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise LoadFailed(
            f"guard {str(text)[:80]!r} is not arithmetic of the inputs' sizes ({error}); export "
            "the model with explicit ranges (torch.export.Dim)"
        ) from None


def _checked(node: ast.expr, inputs: Sequence[str]) -> ast.expr:
    """The same expression with `L['x'].size()[0]` as `L['x'][0]`. Raises ValueError."""

    def below(child: ast.expr) -> ast.expr:
        return _checked(child, inputs)

    match node:
        case ast.Constant(value=bool() | int() | float()):
            return node
        case ast.BoolOp(values=values):
            node.values = [below(value) for value in values]
        case ast.UnaryOp(op=op) if isinstance(op, _OPERATORS):
            node.operand = below(node.operand)
        case ast.BinOp(op=op) if isinstance(op, _OPERATORS):
            node.left, node.right = below(node.left), below(node.right)
        case ast.Compare(ops=ops) if all(isinstance(op, _OPERATORS) for op in ops):
            node.left = below(node.left)
            node.comparators = [below(value) for value in node.comparators]
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            node.args = [below(argument) for argument in node.args]
        case ast.Subscript(
            value=ast.Call(
                func=ast.Attribute(
                    value=ast.Subscript(value=ast.Name(id="L"), slice=ast.Constant(value=name)),
                    attr="size",
                ),
                args=[],
                keywords=[],
            ) as call,
            slice=ast.Constant(value=int()),
        ) if name in inputs:
            assert isinstance(call.func, ast.Attribute)
            node.value = call.func.value
        case _:
            raise ValueError(f"unexpected {type(node).__name__}")
    return node
