"""After `warm`, a new process compiles nothing, whatever public function it calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kedge_kernels
from kedge_kernels import _jit, warming

TESTS = Path(__file__).parents[1]
CALLS = sorted(path.stem for path in (TESTS / "support").glob("public_calls*.py"))


def run(script: str, cache: Path) -> list[str]:
    """What a new process prints, with a cache of its own."""
    paths = [str(TESTS), *(path for path in sys.path if path)]
    variables = {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


COUNT = "from kedge_kernels import warming; print(*warming.compiled_and_loaded())"
WARM = f"import kedge_kernels; kedge_kernels.warm(); {COUNT}"
COLD = """
from kedge_kernels import _jit
print(*(kernel.py_func.__qualname__ for kernel in _jit.KERNELS if not kernel.signatures))
"""


@pytest.mark.timeout(400)
def test_after_warming_no_public_function_compiles_anything(tmp_path: Path) -> None:
    compiled, _, *cold = run(WARM + COLD, tmp_path)
    assert int(compiled) > 50
    assert cold == []  # a kernel that no warm-up reaches
    for calls in CALLS:
        call = f"from support.{calls} import call_everything; call_everything(); {COUNT}"
        compiled, loaded = run(call, tmp_path)
        assert compiled == "0", calls
        assert int(loaded) > 20
    # And a second warming finds all of it.
    compiled, _ = run(WARM, tmp_path)
    assert compiled == "0"


def test_every_public_function_is_among_the_calls() -> None:
    called = "".join((TESTS / "support" / f"{calls}.py").read_text() for calls in CALLS)
    missing = {
        name
        for name in kedge_kernels.__all__
        if callable(getattr(kedge_kernels, name)) and f"kk.{name}" not in called
    }
    results = {"ClassifierDrift", "MmdDrift", "PcaDrift"}
    assert missing <= {"warm", "warm_steps"} | results


def test_steps_count_up() -> None:
    steps = warming.warm_steps()
    first = next(steps)
    assert (first.done, first.total) == (0, len(_jit.WARM_UPS))
    assert first.name
