"""Modules for real servers: a doubling one, a slow one, and one that fails on demand."""

from __future__ import annotations

import torch


class Double(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Upper(torch.nn.Module):
    def forward(self, x: list[str]) -> list[str]:
        return [s.upper() for s in x]


class Slow(torch.nn.Module):
    """Identity that multiplies matrices `x[0, 0]` times first: 1 to 3 ms each."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = torch.ones(384, 384)
        for _ in range(int(x[0, 0])):
            product = torch.mm(product, torch.ones(384, 384)).clamp(0.0, 1.0)
        return x + 0 * product[0, 0]


class Lookup(torch.nn.Module):
    """Raises for an index that the table of four rows does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x.squeeze(1))
