"""What a Python model leaves in this process goes with its test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _own_import_path() -> Iterator[None]:
    """A model's folder stays importable as long as its process; here that is only its test."""
    before = list(sys.path)
    yield
    sys.path[:] = before
