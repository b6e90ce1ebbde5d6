"""A Python model for Kedge, to be put into a folder as `model.py`: the identity, 5 ms a batch.

It sleeps, as a host does while a device computes: the machine's cores are left to the servers and
the clients, and the capacity is a matter of arithmetic.
"""

import time
from pathlib import Path

import torch
from torch import nn

BATCH_S = 0.005


class Sleeping(nn.Module):
    """Its input, after a while."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        time.sleep(BATCH_S)
        return rows


def load(_folder: Path) -> nn.Module:
    """What Kedge calls."""
    return Sleeping()
