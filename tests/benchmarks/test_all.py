import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
spec = importlib.util.spec_from_file_location("benchmarks_all", FOLDER / "all.py")
every = importlib.util.module_from_spec(spec)
spec.loader.exec_module(every)


@pytest.mark.parametrize("name", every.BENCHMARKS)
def test_every_benchmark_asks_a_question_and_takes_the_options_it_is_given(name):
    assert every.question(name).count("?") >= 1
    assert every.question(name).endswith("?")
    usage = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in every.command(name, quick=True, write_readme=True)[2:]:
        assert option in usage


def test_every_benchmark_of_the_folder_is_run_but_the_one_for_another_machine():
    found = {
        path.stem
        for path in FOLDER.glob("*.py")
        if not path.stem.startswith("_") and path.stem not in ("all", "peers", "gpu")
    }
    assert found == set(every.BENCHMARKS)


def test_exit_code_of_a_benchmark_is_handed_on():
    assert every.run([sys.executable, "-c", "raise SystemExit(1)"]) == 1
