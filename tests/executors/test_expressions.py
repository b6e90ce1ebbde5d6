"""Expressions of shapes: all that torch writes passes, and nothing that could do more."""

from __future__ import annotations

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._sympy.functions import CeilDiv, FloorDiv, Mod

from kedge.executors.expressions import expression_problems

S = sympy.Symbol("s77", positive=True, integer=True)
T = sympy.Symbol("s3", positive=True, integer=True)
X = "Symbol('s77', positive=True, integer=True)"


def sympy_expressions() -> st.SearchStrategy[sympy.Expr]:
    leaves = st.sampled_from([S, T]) | st.integers(-50, 50).map(sympy.Integer)
    return st.recursive(
        leaves,
        lambda below: st.one_of(
            st.tuples(below, below).map(lambda pair: pair[0] + pair[1]),
            st.tuples(below, below).map(lambda pair: pair[0] * pair[1]),
            below.map(lambda e: FloorDiv(e, 2)),
            below.map(lambda e: CeilDiv(e, 3)),
            st.tuples(below, below).map(lambda pair: sympy.Max(*pair)),
        ),
        max_leaves=8,
    )


@given(expression=sympy_expressions())
def test_what_sympy_writes_of_shapes_passes(expression: sympy.Expr) -> None:
    assert list(expression_problems(sympy.srepr(expression))) == []


@pytest.mark.parametrize(
    "expression", [S**2, S > 3, sympy.Eq(S, 4), Mod(S, 8), S / 2, sympy.true, sympy.Not(S < T)]
)
def test_powers_comparisons_and_fractions_pass(expression: sympy.Basic) -> None:
    assert list(expression_problems(sympy.srepr(expression))) == []


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "().__class__",
        "s77.__class__",
        "[s77]",
        "lambda: 1",
        "s77 if 1 else 2",
        "'text'",
        "eval('1')",
        "open('f')",
        "Symbol(__import__('os'))",
        "Symbol('s1', positive=print())",
        "Symbol('a b')",
        "Function('f')",
        "Integer('9' * 9)",
        f"Pow({X}, Integer(1000000))",
        "Pow(Pow(Integer(9), Integer(64)), Integer(64))",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        f"LShift(Integer(1), {X})",
        "Integer(9**99)",
        "9" * 30,
        "Float('1', precision=10000000)",
        "(" * 3000 + "1" + ")" * 3000,
        "+".join(["1"] * 5000),
        "",
        "1 2",
    ],
)
def test_whatever_else_is_refused(text: str) -> None:
    assert list(expression_problems(text))


@given(text=st.text(max_size=60))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    for problem in expression_problems(text):
        assert problem


def test_torch_itself_evaluates_such_text() -> None:
    """Why it is looked at: sympify is eval."""
    assert sympy.sympify("__import__('math').factorial(5)") == 120
    assert torch.__version__
