"""Where compiled kernels are kept, and that no old one is ever run; each case in new processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numba
import pytest

from kedge_kernels import _jit
from kedge_kernels.wire import varint_bytes

HELPER = """
from miniature._jit import kernel
@kernel
def factor():
    return {factor}
"""
CALLER = """
from miniature._jit import kernel
from miniature.helper import factor
@kernel
def scaled(value):
    return factor() * value
"""
SCRIPT = """
from miniature.caller import scaled
print(scaled(7), sum(scaled.stats.cache_hits.values()))
"""


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    """A package with the real decorators and two kernels in two files."""
    package = tmp_path / "miniature"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_jit.py").write_bytes(Path(_jit.__file__).read_bytes())
    (package / "helper.py").write_text(HELPER.format(factor=2))
    (package / "caller.py").write_text(CALLER)
    return package


def run(package: Path, **variables: str) -> tuple[int, int]:
    """What `scaled(7)` answers in a new process, and how often it came from the cache."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    }
    finished = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT],
        cwd=package.parent,
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    value, hits = finished.stdout.split()
    return int(value), int(hits)


def test_a_kernel_is_compiled_once_and_again_when_a_helper_in_another_file_changes(
    miniature: Path,
) -> None:
    assert run(miniature) == (14, 0)
    assert run(miniature) == (14, 1)
    (miniature / "helper.py").write_text(HELPER.format(factor=3))
    assert run(miniature) == (21, 0)
    assert len(list((miniature / "__pycache__").glob("kernels-*"))) == 2


def test_the_cache_goes_where_the_user_says_else_where_it_can(
    miniature: Path, tmp_path: Path
) -> None:
    chosen = tmp_path / "chosen"
    assert run(miniature, NUMBA_CACHE_DIR=str(chosen)) == (14, 0)
    assert run(miniature, NUMBA_CACHE_DIR=str(chosen)) == (14, 1)
    assert list(chosen.glob("kernels-*/**/*.nbc"))
    (miniature / "__pycache__").touch()  # a file, so that there cannot be a folder
    assert run(miniature, XDG_CACHE_HOME=str(tmp_path / "user")) == (14, 0)
    assert list((tmp_path / "user").glob("kedge/kernels-*/**/*.nbc"))


def test_kernels_work_without_any_place_for_a_cache(miniature: Path) -> None:
    (miniature / "__pycache__").touch()
    assert run(miniature, HOME="/dev/null") == (14, 0)
    assert run(miniature, HOME="/dev/null") == (14, 0)


def test_other_packages_keep_their_own_cache_directory() -> None:
    config = cast(Any, numba).config
    before = config.CACHE_DIR
    _jit.kernel(lambda value: value)
    assert before == config.CACHE_DIR


def test_kernels_are_compiled_when_first_called_not_when_imported() -> None:
    @_jit.kernel
    def double(value: int) -> int:
        return 2 * varint_bytes(value)

    dispatcher = cast(Any, double)
    assert dispatcher.signatures == []
    assert double(128) == 4
    assert len(dispatcher.signatures) == 1
