"""Expressions of shapes in a torch.export file, which sympy evaluates as Python when it reads them.

Text is allowed only if it is arithmetic in sympy's own notation: calls of known functions on
numbers and symbols, such as `Mul(Integer(2), Symbol('s77', positive=True, integer=True))`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

EXPRESSION_CHARS_MAX = 4096
# Powers and shifts are computed while they are read; 2**64 is beyond any shape.
EXPONENT_MAX = 64

# What sympy's srepr writes for shapes, and torch's own functions of them.
_FUNCTIONS = frozenset(
    """
    Abs Add And BooleanFalse BooleanTrue CeilDiv CeilToInt CleanDiv Equality Float FloatTrueDiv
    FloorDiv FloorToInt GreaterThan Identity IntTrueDiv Integer LShift LessThan Max Min Mod
    ModularIndexing Mul Not Or Pow PowByNatural PythonMod RShift Rational RoundDecimal RoundToInt
    StrictGreaterThan StrictLessThan Symbol ToFloat TruncToFloat TruncToInt Unequality Where
    ceiling floor
    """.split()  # noqa: SIM905 - one name a line fills the screen
)
_POWERS = frozenset({"Pow", "PowByNatural", "LShift", "RShift"})
_CONSTANTS = frozenset({"true", "false", "oo"})
_ASSUMPTIONS = frozenset(
    {
        "integer",
        "positive",
        "nonnegative",
        "negative",
        "nonpositive",
        "nonzero",
        "zero",
        "real",
        "finite",
        "extended_real",
        "commutative",
        "precision",
    }
)


def expression_problems(text: str) -> Iterator[str]:
    """What in the text of a shape's expression is not sympy's own notation of arithmetic."""
    if len(text) > EXPRESSION_CHARS_MAX:
        yield "too long an expression"
        return
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        yield "no expression"
        return
    yield from _node_problems(tree.body)


def _node_problems(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=int() | float()):
            if isinstance(node.value, int) and abs(node.value) >= 2**63:
                yield "too large a number"
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            yield from _node_problems(node.operand)
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult()):
            yield from _node_problems(node.left)
            yield from _node_problems(node.right)
        case ast.Name():
            if node.id not in _CONSTANTS and not re.fullmatch(r"[a-z]{1,3}[0-9]{1,9}", node.id):
                yield f"unknown name '{node.id}'"
        case ast.Call(func=ast.Name(id=function)):
            yield from _call_problems(node, function)
        case _:
            yield f"unexpected {type(node).__name__}"


def _call_problems(call: ast.Call, function: str) -> Iterator[str]:
    if function not in _FUNCTIONS:
        yield f"unknown function '{function}'"
        return
    for keyword in call.keywords:
        if keyword.arg not in _ASSUMPTIONS or not isinstance(keyword.value, ast.Constant):
            yield f"unknown assumption '{keyword.arg}'"
        elif type(keyword.value.value) is not bool and function != "Float":
            yield f"assumption '{keyword.arg}' is neither True nor False"
        elif type(keyword.value.value) is int and keyword.value.value > 1000:
            yield "too high a precision"
    if function in ("Symbol", "Float", "Integer"):
        yield from _literal_problems(call, function)
        return
    for argument in call.args:
        yield from _node_problems(argument)
    if function in _POWERS and not _is_small_power(call):
        yield f"{function} of other than a symbol and a small number"


def _literal_problems(call: ast.Call, function: str) -> Iterator[str]:
    patterns = {"Symbol": r"[A-Za-z_][A-Za-z0-9_]{0,63}", "Float": r"-?[0-9.e+-]{1,64}"}
    if len(call.args) != 1:
        yield f"{function} of {len(call.args)} arguments"
        return
    (argument,) = call.args
    if function in patterns and isinstance(argument, ast.Constant):
        if not isinstance(argument.value, str):
            yield f"{function} of no text"
        elif not re.fullmatch(patterns[function], argument.value):
            yield f"{function} of {argument.value!r}"
    elif function == "Integer":
        yield from _node_problems(argument)
    else:
        yield f"{function} of an expression"


def _is_small_power(call: ast.Call) -> bool:
    """`Pow(x, Integer(2))`: nothing that computes a number of many digits while it is read."""
    if len(call.args) != 2 or call.keywords:
        return False
    base, exponent = call.args
    nests = any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POWERS
        for node in ast.walk(base)
    )
    numbers = [node.value for node in ast.walk(exponent) if isinstance(node, ast.Constant)]
    return (
        not nests
        and len(numbers) <= 2
        and all(isinstance(number, int) and number <= EXPONENT_MAX for number in numbers)
        and all(
            isinstance(node, (ast.Constant, ast.Call, ast.Name, ast.UnaryOp, ast.USub, ast.Load))
            for node in ast.walk(exponent)
        )
        and {n.id for n in ast.walk(exponent) if isinstance(n, ast.Name)} <= {"Integer", "Rational"}
    )
