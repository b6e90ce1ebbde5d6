from __future__ import annotations

import subprocess
import sys

import pytest

from kedge import __version__
from kedge.cli import main

HEAVY = {"torch", "numba", "numpy", "grpc", "pydantic", "yaml", "google.protobuf", "rich"}
VERBS = {"init", "doctor", "validate", "serve", "predict", "bench", "explain"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60
    )


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    listing = "import sys\nfrom kedge.cli import main\ntry: main(['--help'])\n"
    listing += "finally: print('MODULES', *sys.modules)"
    output, _, modules = python("-c", listing).stdout.partition("MODULES")
    assert set(output.split()) >= VERBS
    assert HEAVY.isdisjoint(modules.split())


def test_it_runs_as_a_module() -> None:
    assert python("-m", "kedge.cli", "--version").stdout == f"kedge {__version__}\n"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_whose_first_sentence_fits_the_list(verb: str) -> None:
    command = main.commands[verb]
    assert command.help
    assert not command.get_short_help_str(limit=60).endswith("...")


def test_no_colour_in_pipes() -> None:
    assert "\x1b" not in python("-m", "kedge.cli", "explain", "config").stdout
