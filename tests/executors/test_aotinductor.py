"""AOTInductor packages: the module's answers at any number of rows, and no read past a buffer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kedge.core.errors import InvalidRequest, LoadFailed
from kedge.core.ports import BatchResult
from kedge.core.values import VersionManifest
from kedge.executors.aotinductor import load_aotinductor
from kedge.executors.make import make_executor
from support.packages import Mlp, package
from support.torchscript import manifest

pytestmark = pytest.mark.timeout(600)  # compiles once: 20 s on a free core
OUTPUTS = [("y", "FP32", (2,)), ("best", "INT64", ())]


@pytest.fixture(scope="module")
def fixed(request: pytest.FixtureRequest) -> Path:
    return package(request.config, 8)


@pytest.fixture(scope="module")
def ranged(request: pytest.FixtureRequest) -> Path:
    return package(request.config, (1, 16))


def declared(
    path: Path, rows_max: int = 8, dims: tuple[int, ...] = (4,), datatype: str = "FP32"
) -> VersionManifest:
    return manifest(path, [("x", datatype, dims)], OUTPUTS, rows_max=rows_max)


def run(made: VersionManifest, x: np.ndarray) -> BatchResult:
    executor = make_executor(made, allow_model_code=True)
    results: list[BatchResult] = []
    raw = np.frombuffer(bytearray(x.tobytes()), np.uint8)
    executor.submit(len(x), [x.shape[1:]], [raw], lambda result, final: results.append(result))
    return results[0]


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 16, 20])
@pytest.mark.parametrize("which", ["fixed", "ranged"])
def test_any_number_of_rows_gets_the_modules_answers(
    request: pytest.FixtureRequest, which: str, rows: int
) -> None:
    """20 is more than either package takes: it runs in parts."""
    path = request.getfixturevalue(which)
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    result = run(declared(path, rows_max=20), x)
    assert result.error is None
    expected = Mlp().eval()(torch.from_numpy(x))
    y = result.outputs[0].data.view(np.float32).reshape(rows, 2)
    np.testing.assert_allclose(y, expected["y"].detach().numpy(), rtol=1e-5, atol=1e-6)
    assert result.outputs[1].data.view(np.int64).tolist() == expected["best"].tolist()


def test_code_is_refused_without_the_option(fixed: Path) -> None:
    with pytest.raises(LoadFailed, match=r"aotinductor is code .* --allow-model-code"):
        make_executor(declared(fixed), allow_model_code=False)


@pytest.mark.parametrize(
    ("dims", "datatype", "message"),
    [
        ((5,), "FP32", "unmatched dim value at 1, expected: 4, but got: 5"),
        ((2, 2), "FP32", "unmatched|dim"),
        ((4,), "FP64", "unmatched dtype"),
    ],
)
def test_a_declaration_that_is_not_the_packages_is_not_loaded(
    fixed: Path, dims: tuple[int, ...], datatype: str, message: str
) -> None:
    with pytest.raises(LoadFailed, match=message):
        make_executor(declared(fixed, dims=dims, datatype=datatype), allow_model_code=True)


def test_the_number_of_inputs_is_checked(fixed: Path) -> None:
    made = manifest(fixed, [("a", "FP32", (4,)), ("b", "FP32", (4,))], OUTPUTS)
    with pytest.raises(LoadFailed, match="2 inputs are declared, the model takes 1"):
        make_executor(made, allow_model_code=True)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(8, 4, dtype=torch.float64),
        torch.zeros(4, 8).t(),
        torch.zeros(8, 3),
        torch.zeros(8, 4, 1),
        torch.zeros(16, 8)[:8, ::2],
    ],
)
def test_a_wrong_input_is_an_error_of_its_request(fixed: Path, wrong: object) -> None:
    forward = load_aotinductor(fixed, declared(fixed).schema).forward
    with pytest.raises(InvalidRequest, match="input 'x': "):
        forward(wrong)
    assert forward(torch.zeros(8, 4))


def test_free_dimensions_are_checked_at_every_call(fixed: Path) -> None:
    made = declared(fixed, dims=(-1,))
    assert run(made, np.zeros((8, 4), np.float32)).error is None
    error = run(made, np.zeros((8, 5), np.float32)).error
    assert "unmatched dim value at 1, expected: 4, but got: 5" in str(error)


PLAIN = """
import torch, sys
loader = torch._C._aoti.AOTIModelPackageLoader(sys.argv[1], "model", False, 1, -1)
print(len(loader.run([torch.zeros(4, 4)])[1]))
"""


def test_torch_itself_answers_eight_rows_to_four(fixed: Path) -> None:
    """Why all this: it has read four rows that are not there."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AOTI")}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(fixed)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "8"
