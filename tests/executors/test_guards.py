"""Guards: torch's own hold or not as Python says, and no other text is evaluated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kedge.core.errors import InvalidRequest, LoadFailed
from kedge.core.ports import BatchResult
from kedge.core.settings import Compile, ExecutionLimits
from kedge.executors.guards import Guards
from kedge.executors.make import make_executor
from support.torchscript import manifest


class Windows(torch.nn.Module):
    """Computes something else for lengths that eight divides."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.sum(1, keepdim=True)
        return total + 1 if x.shape[1] % 8 == 0 else total


def test_a_size_of_another_branch_is_refused_not_answered_wrongly(tmp_path: Path) -> None:
    with torch.inference_mode(False):
        auto = torch.export.Dim.AUTO
        program = torch.export.export(
            Windows(), (torch.zeros(4, 16),), dynamic_shapes=({0: auto, 1: auto},)
        )
        torch.export.save(program, tmp_path / "m.pt2")
    made = manifest(tmp_path / "m.pt2", [("x", "FP32", (-1,))], [("y", "FP32", (1,))])
    for way in (Compile.NONE, Compile.AUTO):
        made = replace(made, execution=ExecutionLimits(compile=way))
        executor = make_executor(made, allow_model_code=False)
        results: list[BatchResult] = []
        for length in (8, 24, 12):
            x = np.ones((3, length), np.float32).reshape(-1).view(np.uint8)
            executor.submit(3, [(length,)], [x], lambda r, f, to=results: to.append(r))
        assert [r.outputs[0].data.view(np.float32)[0] for r in results[:2]] == [9, 25]
        assert isinstance(results[2].error, InvalidRequest)
        assert "% 8) == 0" in str(results[2].error)


EXPRESSIONS = [
    "{a} > 10",
    "({a} % 8) == 0",
    "({a}*{b}) == (4*{b}*({a} // 4))",
    "max(1, {a} // 4) == ({a} // 4)",
    "{a} != 3 and not {b} < 2 or {a} == {b}",
    "-{a} + 5 <= {b} - 2",
    "{a} // {b} == 1",
]


@given(text=st.sampled_from(EXPRESSIONS), a=st.integers(0, 20), b=st.integers(1, 20))
def test_a_guard_holds_as_python_says(text: str, a: int, b: int) -> None:
    guard = text.format(a="L['x'].size()[1]", b="L['y'].size()[0]")
    holds = Guards([guard], ["x", "y"]).broken({"x": [0, a], "y": [b]}) is None
    assert holds == bool(eval(text.format(a=a, b=b)))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "L['x'].__class__",
        "L['x'].size().__class__",
        "L['x'].size(0)",
        "L['other'].size()[0] == 1",
        "L['x'].size()[L]",
        "L['x'].data_ptr() == 0",
        "[1]",
        "9**9**9",
        "1 << 99",
        "'a' * 9",
        "max(*[1])",
        "max(1, key=print)",
        "(lambda: 1)()",
        "x := 1",
        "",
        "1" * 5000,
        "(" * 999,
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(LoadFailed, match="is not arithmetic of the inputs' sizes"):
        Guards([text], ["x"])


@given(text=st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Guards([text], ["x"]).broken({"x": [1]})
    except LoadFailed:
        return


def test_what_cannot_be_computed_does_not_hold() -> None:
    assert Guards(["1 // L['x'].size()[0] == 0"], ["x"]).broken({"x": [0]})
    assert Guards(["L['x'].size()[9] == 0"], ["x"]).broken({"x": [0]})
