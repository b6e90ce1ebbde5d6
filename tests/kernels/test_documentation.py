"""The example of docs/detectors-and-evidence.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import kedge_kernels

PAGE = Path(__file__).parents[2] / "docs" / "detectors-and-evidence.md"


def test_the_example_runs_and_answers_one_level_for_each_detector() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 1
    names = {name: getattr(kedge_kernels, name) for name in kedge_kernels.__all__}
    names |= {"latency_ms": 3.0, "loss": 0.1, "error": 0.0}
    exec(examples[0], names)
    assert names["levels"].tolist() == [0, 0, 0]
    assert names["levels"].dtype == np.uint8


def test_every_name_that_the_page_names_is_public() -> None:
    words = set(re.findall(r"`([A-Za-z_]+)(?:\(|`)", PAGE.read_text()))
    classes = {word for word in words if word[0].isupper()}
    assert len(classes) > 15
    assert classes <= set(kedge_kernels.__all__)
