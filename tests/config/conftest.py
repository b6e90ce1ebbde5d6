"""A small endpoint file to write variations of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ENDPOINT = """\
apiVersion: kedge/v1
kind: Endpoint
name: fraud
inputs:
  - {name: amount, datatype: FP32, shape: [-1, 3]}
  - {name: country, datatype: BYTES, shape: [-1]}
outputs:
  - {name: score, datatype: FP32, shape: [-1]}
versions:
  "1": {model: models/1.pt}
  "2": {model: models/2.pt}
serving:
  batching: {max_batch_size: 8, max_queue_delay: 2ms, preferred_batch_size: [8, 4]}
  queue:
    max_queued_requests: 16
    max_queued_bytes: 1.5MiB
    timeout: 50ms
    allow_timeout_override: true
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes text as endpoint.yaml beside two model files; the path of the former."""
    (tmp_path / "models").mkdir()
    for name in ("1.pt", "2.pt"):
        (tmp_path / "models" / name).write_bytes(b"model")

    def write_text(text: str) -> Path:
        path = tmp_path / "endpoint.yaml"
        path.write_text(text)
        return path

    return write_text
