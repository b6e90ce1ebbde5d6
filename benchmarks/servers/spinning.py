"""A Python model for Kedge, to be put into a folder as `model.py`: holds its GIL for 50 ms."""

import time
from pathlib import Path

import torch
from torch import nn

BATCH_S = 0.05


class Spinning(nn.Module):
    """Its input, after a while in which no other thread of this process runs Python."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        end = time.perf_counter() + BATCH_S
        while time.perf_counter() < end:
            pass
        return rows


def load(_folder: Path) -> nn.Module:
    """What Kedge calls."""
    return Spinning()
