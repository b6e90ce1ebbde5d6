"""`compile`: the same answers in every way, decided once, kept, and decided anew when damaged."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kedge.core.errors import LoadFailed
from kedge.core.ports import BatchResult, Executor
from kedge.core.settings import Compile, ExecutionLimits
from kedge.core.values import ModelFormat, VersionManifest
from kedge.executors import choices
from kedge.executors.compile import fastest
from kedge.executors.make import make_executor
from support.archives import Affine, export
from support.torchscript import manifest, save

pytestmark = pytest.mark.timeout(600)  # compiles: 20 to 30 s on a free core


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def declared(path: Path, compile: Compile) -> VersionManifest:
    made = manifest(path, [("x", "FP32", (4,))], [("y", "FP32", (2,))])
    return replace(made, execution=ExecutionLimits(compile=compile))


def answers(executor: Executor, rows: int) -> np.ndarray:
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    results: list[BatchResult] = []
    executor.submit(rows, [(4,)], [x.reshape(-1).view(np.uint8)], lambda r, f: results.append(r))
    assert results[0].error is None
    return results[0].outputs[0].data.view(np.float32).reshape(rows, 2)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.inference_mode(False):
        path = tmp_path_factory.mktemp("mlp") / "m.pt2"
        return export(Mlp(), path, torch.zeros(4, 4), rows=(1, 8))


@pytest.fixture(scope="module")
def store(mlp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder in which the package of `mlp` is compiled."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("state")
    make_executor(declared(mlp, Compile.AOTINDUCTOR), allow_model_code=False, state_dir=folder)
    return folder


def only_choice(store: Path) -> Path:
    (found,) = store.glob("compiled/*/choice.json")
    return found


@pytest.mark.parametrize("way", [Compile.NONE, Compile.TORCHSCRIPT, Compile.AOTINDUCTOR])
def test_every_way_answers_the_same(mlp: Path, store: Path, way: Compile) -> None:
    executor = make_executor(declared(mlp, way), allow_model_code=False, state_dir=store)
    with torch.inference_mode():
        module = Mlp().eval()
        for rows in (1, 2, 5, 8):
            x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
            expected = module(torch.from_numpy(x)).numpy()
            np.testing.assert_allclose(answers(executor, rows), expected, rtol=1e-4, atol=1e-5)


def test_what_is_stored_is_not_compiled_again(
    mlp: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = only_choice(store).stat().st_mtime_ns
    monkeypatch.setattr(subprocess, "run", None)
    executor = make_executor(
        declared(mlp, Compile.AOTINDUCTOR), allow_model_code=False, state_dir=store
    )
    assert answers(executor, 3).shape == (3, 2)
    assert only_choice(store).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "choice.json").write_text("{"),
        lambda folder: (folder / "choice.json").write_text('{"choice": {"chosen": "eval"}}'),
        lambda folder: (folder / "choice.json").write_text('{"choice": ' + "[" * 9999),
        lambda folder: (folder / "choice.json").unlink(),
        lambda folder: (folder / "model.pt2").unlink(),
        lambda folder: (folder / "model.pt2").write_bytes(b"other"),
        shutil.rmtree,
    ],
)
def test_a_damaged_store_is_decided_anew(
    mlp: Path, store: Path, tmp_path: Path, damage: object
) -> None:
    """Whatever lies there, another package than the recorded one is never loaded."""
    copy = tmp_path / "state"
    shutil.copytree(store, copy)
    folder = only_choice(copy).parent
    made = declared(mlp, Compile.AOTINDUCTOR)
    kept = choices.Choice("none")
    found = choices.choose_once(made, copy, lambda new: kept)[1]
    assert found.chosen == "aotinductor"
    damage(folder)  # type: ignore[operator]
    assert choices.choose_once(made, copy, lambda new: kept)[1] == kept
    assert choices.choose_once(made, copy, lambda new: pytest.fail("decided twice"))[1] == kept


def test_another_content_interface_or_way_is_another_choice(mlp: Path, tmp_path: Path) -> None:
    made = declared(mlp, Compile.AUTO)
    other = tmp_path / "m.pt2"
    other.write_bytes(mlp.read_bytes())
    assert choices.choice_key(made) == choices.choice_key(replace(made, path=other))
    other.write_bytes(mlp.read_bytes() + b"x")
    wider = replace(made, schema=replace(made.schema, rows_max=9))
    keys = {
        choices.choice_key(made),
        choices.choice_key(replace(made, path=other)),
        choices.choice_key(wider),
        choices.choice_key(declared(mlp, Compile.AOTINDUCTOR)),
    }
    assert len(keys) == 4


DECIDES = """
import sys
from pathlib import Path
from kedge.core.settings import Compile
from kedge.executors.choices import Choice, choose_once
from executors.test_compile import declared

def decide(folder):
    with open(sys.argv[3], "a") as file:
        file.write("x")
    return Choice("torchscript")

print(choose_once(declared(Path(sys.argv[1]), Compile.AUTO), Path(sys.argv[2]), decide)[1].chosen)
"""


def test_of_several_processes_one_decides_and_all_agree(mlp: Path, tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    log = tmp_path / "decided"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(DECIDES), str(mlp), str(tmp_path), str(log)],
            env={"PYTHONPATH": ":".join([tests, *filter(None, sys.path)])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in processes] == ["torchscript"] * 3
    assert log.read_text() == "x"


def test_a_lock_that_is_never_let_go_ends_in_an_error(
    mlp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = declared(mlp, Compile.AUTO)
    monkeypatch.setattr(choices, "WAIT_S_MAX", 0.1)
    (tmp_path / "compiled").mkdir()
    with (tmp_path / "compiled" / f"{choices.choice_key(made)}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LoadFailed, match="another process is compiling"):
            choices.choose_once(made, tmp_path, lambda new: choices.Choice("none"))


def test_a_way_that_answers_otherwise_is_not_taken(tmp_path: Path) -> None:
    """A trace keeps the sizes that it has seen: Affine's reshape is wrong for any other batch."""
    with torch.inference_mode(False):
        path = export(Affine(), tmp_path / "m.pt2", torch.zeros(4, 4), rows=(1, 8))
    with pytest.raises(LoadFailed, match="compile: torchscript: "):
        make_executor(declared(path, Compile.TORCHSCRIPT), allow_model_code=False)
    executor = make_executor(declared(path, Compile.AUTO), allow_model_code=False)
    assert answers(executor, 3).shape == (3, 2)


def test_the_fastest_is_kept_with_its_figures(mlp: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "kedge.executors.compile._obstacle", lambda state_dir: "nothing to compile with"
        )
        forward = fastest(declared(mlp, Compile.AUTO), ModelFormat.EXPORTED, "cpu", tmp_path)
    stored = json.loads(only_choice(tmp_path).read_text())
    times = stored["choice"]["times_us"]
    assert times.keys() == {"none", "torchscript"}
    best = min(times, key=lambda way: times[way][0] * times[way][1])
    assert stored["choice"]["chosen"] == best
    assert stored["machine"]["torch"] == torch.__version__
    assert torch.is_tensor(forward(torch.zeros(3, 4)))


def test_what_cannot_be_compiled_as_asked_says_what_is_missing(mlp: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="compile: aotinductor needs a state folder"):
        make_executor(declared(mlp, Compile.AOTINDUCTOR), allow_model_code=False)
    script = save(Mlp(), tmp_path / "m.pt")
    with pytest.raises(
        LoadFailed, match=r"needs a torch\.export file or a Python model, this is to"
    ):
        make_executor(
            declared(script, Compile.AOTINDUCTOR), allow_model_code=False, state_dir=tmp_path
        )


def test_a_python_model_is_compiled_too(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    (tmp_path / "model.py").write_text(
        "import torch\ndef load(path):\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),"
        " torch.nn.Linear(8, 2))\n"
    )
    plain = make_executor(declared(tmp_path, Compile.NONE), allow_model_code=True)
    state = tmp_path.parent / "state"
    compiled = make_executor(
        declared(tmp_path, Compile.AOTINDUCTOR), allow_model_code=True, state_dir=state
    )
    for rows in (1, 3, 8):
        np.testing.assert_allclose(answers(compiled, rows), answers(plain, rows), atol=1e-5)


BRANCHES = """
import torch

class Branches(torch.nn.Module):
    def forward(self, x):
        return x[:, :2] * (100 if bool(x.sum() > 1e6) else 1)

def load(path):
    return Branches()
"""


def test_a_python_model_that_decides_by_its_data_stays_as_it_is(tmp_path: Path) -> None:
    """A trace would have kept the branch of its example, and random inputs never take the other."""
    (tmp_path / "model.py").write_text(BRANCHES)
    executor = make_executor(declared(tmp_path, Compile.AUTO), allow_model_code=True)
    results: list[BatchResult] = []
    for value in (1.0, 1e6):
        x = np.full((2, 4), value, np.float32).reshape(-1).view(np.uint8)
        executor.submit(2, [(4,)], [x], lambda r, f: results.append(r))
    found = [float(result.outputs[0].data.view(np.float32)[0]) for result in results]
    assert found == [1.0, 1e8]
    with pytest.raises(LoadFailed, match="compile: torchscript: "):
        make_executor(declared(tmp_path, Compile.TORCHSCRIPT), allow_model_code=True)


def test_a_python_model_without_branches_becomes_torchscript(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\ndef load(path):\n    return torch.nn.Linear(4, 2)\n"
    )
    executor = make_executor(declared(tmp_path, Compile.TORCHSCRIPT), allow_model_code=True)
    assert [answers(executor, rows).shape for rows in (1, 5, 8)] == [(1, 2), (5, 2), (8, 2)]


def test_a_python_model_that_decides_by_its_sizes_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x[:, :2] * (1 if x.shape[0] % 2 else 2)\n"
        "def load(path):\n    return M()\n"
    )
    with pytest.raises(LoadFailed, match="depends on the number of rows"):
        make_executor(declared(tmp_path, Compile.TORCHSCRIPT), allow_model_code=True)
    executor = make_executor(declared(tmp_path, Compile.AUTO), allow_model_code=True)
    for rows in (2, 3, 4, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        np.testing.assert_array_equal(answers(executor, rows), x[:, :2] * (2 - rows % 2))
