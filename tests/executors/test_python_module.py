"""Python models: `load(path)` of a model.py, refused without the option, with reasons that help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kedge.core.errors import LoadFailed
from kedge.core.ports import BatchResult
from kedge.core.settings import Compile, ExecutionLimits
from kedge.core.values import VersionManifest
from kedge.executors.make import make_executor
from support.torchscript import manifest

CODE = """
import torch
from safetensors.torch import load_file
from scaling import FACTOR

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x):
        return FACTOR * self.linear(x)

def load(path):
    model = Model()
    model.load_state_dict(load_file(path / "model.safetensors"))
    return model
"""


def folder_with(folder: Path, code: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(code)
    return folder / "model.py"


def declared(path: Path) -> VersionManifest:
    made = manifest(path, [("x", "FP32", (4,))], [("y", "FP32", (2,))])
    return replace(made, execution=ExecutionLimits(compile=Compile.NONE))


@pytest.mark.parametrize("gives_folder", [False, True])
def test_a_folder_of_code_and_weights_serves(tmp_path: Path, gives_folder: bool) -> None:
    path = folder_with(tmp_path / "m", CODE)
    (path.parent / "scaling.py").write_text("FACTOR = 3.0")
    linear = torch.nn.Linear(4, 2)
    weights = {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}
    save_file(weights, path.parent / "model.safetensors")
    executor = make_executor(declared(path.parent if gives_folder else path), allow_model_code=True)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    results: list[BatchResult] = []
    executor.submit(3, [(4,)], [x.reshape(-1).view(np.uint8)], lambda r, f: results.append(r))
    expected = 3 * linear(torch.from_numpy(x)).detach().numpy()
    y = results[0].outputs[0].data.view(np.float32).reshape(3, 2)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_code_is_not_even_imported_without_the_option(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = folder_with(tmp_path / "m", f"open({str(marker)!r}, 'w')")
    with pytest.raises(LoadFailed, match=r"python is code .* --allow-model-code"):
        make_executor(declared(path), allow_model_code=False)
    assert not marker.exists()
    with pytest.raises(LoadFailed, match=r"has no function load\(path\)"):
        make_executor(declared(path), allow_model_code=True)
    assert marker.exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def load(path):\n    return 3", "returned int, expected a torch.nn.Module"),
        ("import nowhere_at_all", "line 1: ModuleNotFoundError: No module named 'nowhere"),
        ("x = 1\ndef load(path):\n    raise ValueError('no weights')", "line 3: ValueError: no we"),
        ("def load(path:", "SyntaxError"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
    ],
)
def test_a_model_that_does_not_load_says_where(tmp_path: Path, code: str, message: str) -> None:
    path = folder_with(tmp_path / "m", code)
    with pytest.raises(LoadFailed, match=message):
        make_executor(declared(path), allow_model_code=True)


def test_a_folder_without_a_model_py_says_so(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"model\.py: there is no such file"):
        make_executor(declared(tmp_path), allow_model_code=True)


def test_two_models_of_the_same_names_are_two(tmp_path: Path) -> None:
    code = (
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x[:, :2] * {}\ndef load(path):\n    return M()"
    )
    answers = []
    for factor in (2, 3):
        path = folder_with(tmp_path / str(factor), code.format(factor))
        executor = make_executor(declared(path), allow_model_code=True)
        results: list[BatchResult] = []
        ones = np.ones(4, np.float32).view(np.uint8)
        executor.submit(1, [(4,)], [ones], lambda r, f, to=results: to.append(r))
        answers.append(results[0].outputs[0].data.view(np.float32).tolist())
    assert answers == [[2, 2], [3, 3]]
