"""Every example that a reader may copy is read by the code that reads theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedge.config.load import load_endpoint

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted([*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("examples/*/*.yaml")])


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_example_is_right(path: Path) -> None:
    endpoint = load_endpoint(path, check_files=False, environ={})
    assert endpoint.manifests
