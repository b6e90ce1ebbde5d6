"""torch.export files: the same answers as torch's own loader, and nothing of them is ever run.

Each attack is first shown to work on `torch.export.load`: its marker file appears.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kedge.core.errors import InvalidRequest, LoadFailed
from kedge.core.ports import BatchResult
from kedge.core.settings import Compile, ExecutionLimits
from kedge.core.values import VersionManifest
from kedge.executors.make import make_executor
from support.archives import (
    CONSTANTS_CONFIG,
    GRAPH,
    WEIGHTS_CONFIG,
    Affine,
    changed,
    entries,
    export,
    write,
)
from support.torchscript import manifest


def declared(path: Path, rows_max: int = 8) -> VersionManifest:
    made = manifest(path, [("x", "FP32", (4,))], [("y", "FP32", (2,))], rows_max=rows_max)
    return replace(made, execution=ExecutionLimits(compile=Compile.NONE))


def affine(folder: Path, rows: tuple[int, int] | None = (1, 8)) -> Path:
    return export(Affine(), folder / "m.pt2", torch.zeros(4, 4), rows=rows)


def run(made: VersionManifest, x: np.ndarray) -> BatchResult:
    executor = make_executor(made, allow_model_code=False)
    results: list[BatchResult] = []
    raw = np.frombuffer(bytearray(x.tobytes()), np.uint8)
    executor.submit(len(x), [x.shape[1:]], [raw], lambda result, final: results.append(result))
    return results[0]


def values(result: BatchResult) -> np.ndarray:
    assert result.error is None, result.error
    return result.outputs[0].data.view(np.float32).reshape(result.outputs[0].shape)


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_an_exported_program_answers_what_torch_answers(tmp_path: Path, rows: int) -> None:
    path = affine(tmp_path)
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    expected = torch.export.load(path).module()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_array_equal(values(run(declared(path), x)), expected)


def test_a_program_of_a_fixed_batch_serves_every_number_of_rows(tmp_path: Path) -> None:
    path = affine(tmp_path, rows=None)
    module = Affine().eval()
    for rows in (1, 3, 4, 7, 8):
        x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        expected = module(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(values(run(declared(path), x)), expected, rtol=1e-6)


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True)


def test_sizes_outside_of_those_exported_are_the_callers_mistake(tmp_path: Path) -> None:
    length = torch.export.Dim("length", min=2, max=5)
    program = torch.export.export(Sum(), (torch.zeros(4, 3),), dynamic_shapes=({1: length},))
    torch.export.save(program, tmp_path / "m.pt2")
    made = manifest(tmp_path / "m.pt2", [("x", "FP32", (-1,))], [("y", "FP32", (1,))], rows_max=4)
    assert values(run(made, np.ones((4, 5), np.float32))).tolist() == [[5.0]] * 4
    error = run(made, np.ones((4, 6), np.float32)).error
    assert isinstance(error, InvalidRequest)
    assert "dimension 1 has 6 elements, the model takes 2 to 5" in str(error)


class Named(torch.nn.Module):
    def forward(self, a: torch.Tensor, *, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": a + b, "difference": a - b}


def test_inputs_by_keyword_and_outputs_by_name_find_their_place(tmp_path: Path) -> None:
    program = torch.export.export(Named(), (torch.zeros(2, 1),), {"b": torch.zeros(2, 1)})
    torch.export.save(program, tmp_path / "m.pt2")
    made = manifest(
        tmp_path / "m.pt2",
        [("a", "FP32", (1,)), ("b", "FP32", (1,))],
        [("difference", "FP32", (1,)), ("sum", "FP32", (1,))],
        rows_max=2,
    )
    executor = make_executor(made, allow_model_code=False)
    results: list[BatchResult] = []
    a, b = (np.float32([value, value]).view(np.uint8) for value in (5, 3))
    executor.submit(2, [(1,), (1,)], [a, b], lambda result, final: results.append(result))
    found = [output.data.view(np.float32).tolist() for output in results[0].outputs]
    assert found == [[2, 2], [8, 8]]


# Attacks


class Attack:
    """Unpickling it makes the marker file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self.marker}",)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def sample_inputs(path: Path, marker: Path) -> None:
    write(path, {**entries(path), "data/sample_inputs/model.pt": saved(Attack(marker))})


def legacy_weights(path: Path, marker: Path) -> None:
    write(path, {**entries(path), "data/weights/model.pt": saved({"x": Attack(marker)})})


def pickled_weight(path: Path, marker: Path) -> None:
    def change(config: Any) -> None:
        config["config"]["linear.weight"]["use_pickle"] = True

    contents = entries(path)
    weight = json.loads(contents[WEIGHTS_CONFIG])["config"]["linear.weight"]["path_name"]
    write(path, {**contents, f"data/weights/{weight}": saved(Attack(marker))})
    changed(path, WEIGHTS_CONFIG, change)


def opaque_constant(path: Path, marker: Path) -> None:
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
    content = pickle.dumps(Attack(marker))
    write(path, {**entries(path), "data/constants/opaque_obj_0": content})
    change = {"tensor_meta": None, **payload}
    changed(path, CONSTANTS_CONFIG, lambda config: config["config"].update(x=change))


def expression(path: Path, marker: Path) -> None:
    def change(program: Any) -> None:
        values = program["graph_module"]["graph"]["sym_int_values"]
        for value in values.values():
            value["as_expr"]["expr_str"] = f"__import__('os').system('touch {marker}')"

    changed(path, GRAPH, change)


def guard(path: Path, marker: Path) -> None:
    code = f"[__import__('os').system('touch {marker}'), L['x']]"
    changed(path, GRAPH, lambda program: program.update(guards_code=[code]))


def tree(path: Path, marker: Path) -> None:
    (path.parent / "kedge_attack.py").write_text(f"open({str(marker)!r}, 'w')")
    context = json.dumps({"__enum__": True, "fqn": "kedge_attack:X", "name": "X"})
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = [1, {"type": "builtins.dict", "context": f"[{context}]", "children_spec": [leaf]}]

    def change(program: Any) -> None:
        signature(program)["out_spec"] = json.dumps(spec)

    changed(path, GRAPH, change)


ATTACKS = {
    sample_inputs: None,
    legacy_weights: r"entry 'data/weights/model\.pt': a pickled object",
    pickled_weight: r"'data/weights/weight_0' is a pickled tensor",
    opaque_constant: r"'data/constants/opaque_obj_0': a pickled object",
    expression: "unexpected",
    guard: "is not arithmetic of the inputs' sizes",
    tree: "whose keys are not names",
}


@pytest.mark.parametrize(("attack", "message"), ATTACKS.items(), ids=lambda value: str(value)[:30])
def test_a_crafted_file_runs_a_command_in_torch_and_none_here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[Path, Path], None],
    message: str | None,
) -> None:
    marker = tmp_path / "ran"
    path = affine(tmp_path)
    attack(path, marker)
    monkeypatch.syspath_prepend(str(tmp_path))
    if message is None:  # what is not needed is left out, and the rest serves
        x = np.ones((2, 4), np.float32)
        assert values(run(declared(path), x)).shape == (2, 2)
    else:
        with pytest.raises(LoadFailed, match=message):
            make_executor(declared(path), allow_model_code=True)
    assert not marker.exists()
    with contextlib.suppress(Exception):  # it may fail after the attack
        torch.export.load(path).module()(torch.zeros(2, 4))
    assert marker.exists(), "the attack is none: it proves nothing"


def first_node(program: Any) -> Any:
    return program["graph_module"]["graph"]["nodes"][0]


def signature(program: Any) -> Any:
    return program["graph_module"]["module_call_graph"][0]["signature"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: first_node(p).update(target="torch.load"), "operator"),
        (lambda p: first_node(p).update(target="torch.os.system"), "operator"),
        (lambda p: first_node(p).update(target="torch.ops.load_library"), "operator"),
        (lambda p: first_node(p).update(target="torch.ops.aten.from_file.default"), "operator"),
        (lambda p: first_node(p).update(target="torch.ops.aten.__class__.mro"), "operator"),
        (lambda p: signature(p).update(forward_arg_names=["x=print()"]), "forward_arg_names"),
        (
            lambda p: p["graph_module"]["graph"]["nodes"][0].update(
                target="torch.ops.aten.from_file.default"
            ),
            "operator",
        ),
        (
            lambda p: p["graph_module"]["graph"]["nodes"][0].update(
                target="torch.ops.load_library"
            ),
            "operator",
        ),
        (lambda p: first_node(p).update(name="x; import os"), "expected a name"),
        (lambda p: p["range_constraints"].update({"a b": {"min_val": 0, "max_val": 1}}), "letters"),
        (lambda p: p.update(opset_version={"aten": 2**70}), "64 bits"),
        (lambda p: p.update(extra={"text": "print(1)"}), "unexpected text"),
    ],
)
def test_what_is_not_what_torch_writes_is_refused(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = changed(affine(tmp_path), GRAPH, change)
    with pytest.raises(LoadFailed, match=message):
        make_executor(declared(path), allow_model_code=True)


def test_a_missing_weight_and_a_missing_graph_are_named(tmp_path: Path) -> None:
    contents = entries(affine(tmp_path))
    without = {name: text for name, text in contents.items() if name != "data/weights/weight_0"}
    with pytest.raises(LoadFailed, match="there is no entry 'data/weights/weight_0'"):
        make_executor(declared(write(tmp_path / "a.pt2", without)), allow_model_code=False)
    renamed = {name.replace("models/model", "models/a"): text for name, text in contents.items()}
    with pytest.raises(LoadFailed, match=r"expected one program, 'models/model\.json'"):
        make_executor(declared(write(tmp_path / "b.pt2", renamed)), allow_model_code=False)


def test_weights_that_are_shorter_than_declared_are_refused(tmp_path: Path) -> None:
    path = affine(tmp_path)
    write(path, {**entries(path), "data/weights/weight_0": bytes(4)})
    with pytest.raises(LoadFailed, match="out of bounds"):
        make_executor(declared(path), allow_model_code=False)
