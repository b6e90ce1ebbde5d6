"""Compiles a model that Kedge serves. Usage: aotinductor.py FILE.pt2

[1, 32] to [1, 32] through matrix products that take about 100 ms on one core of this machine. Needs
a C++ compiler, and half a minute.
"""

import os
import sys
import time

import torch
from torch import nn

MODEL_S = 0.1
WIDTH = 512
LAYERS = 4


class Heavy(nn.Module):
    """`size` rows of work for each row of input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Buffer(torch.randn(size, WIDTH))
        self.weight = nn.Buffer(torch.randn(WIDTH, WIDTH) / WIDTH**0.5)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        state = self.base + rows.mean()
        for _ in range(LAYERS):
            state = torch.relu(state @ self.weight)
        return rows + state.mean()


def seconds(model: nn.Module, rows: torch.Tensor) -> float:
    """The fastest of some runs."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        model(rows)
        times.append(time.perf_counter() - begin)
    return min(times)


def main(path: str) -> None:
    """Finds the size that takes 100 ms here, and compiles that."""
    torch.set_num_threads(1)
    # Kedge refuses packages that do not check their inputs.
    os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"
    rows = torch.ones(1, 32)
    with torch.inference_mode():
        probe = 1024
        size = max(16, round(probe * MODEL_S / seconds(Heavy(probe), rows)))
    with torch.no_grad():
        exported = torch.export.export(Heavy(size).eval(), (rows,))
        torch._inductor.aoti_compile_and_package(exported, package_path=path)


if __name__ == "__main__":
    main(sys.argv[1])
