"""The model as a torch module: raw features in, so scaling and missing values are inside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from data import CATEGORIES, FEATURES
from torch import Tensor, nn

CATEGORY_SIZES = tuple(len(values) for values in CATEGORIES.values())
# Feature to its full turn: 23:59 lies next to 0:00, and north is both 0 and 360 degrees.
TURNS = {"departure_hours": 24.0, "arrival_hours": 24.0, "wind_degrees": 360.0}
RARE_SHARE = 0.05


class FeatureEncoder(nn.Module):
    """Raw features f4[n, len(FEATURES)] to f4[n, width]: one-hot, standardised, angles, gaps.

    Fitted on the training rows; a category never listed becomes zeros, a missing number the mean.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    scale: Tensor
    category_columns: Tensor
    category_codes: Tensor
    angle_columns: Tensor
    angle_turns: Tensor

    def __init__(self, training: Tensor) -> None:
        super().__init__()
        numbers = training[:, len(CATEGORY_SIZES) :]
        # Held to the central 90 % of what training saw: held only to all of it, the network took
        # winter's rare heat for July's (mean prediction 0.10, not 0.14; Brier 0.242, not 0.223).
        self.register_buffer("low", numbers.nanquantile(RARE_SHARE, dim=0))
        self.register_buffer("high", numbers.nanquantile(1 - RARE_SHARE, dim=0))
        clamped = torch.clamp(numbers, self.low, self.high)
        mean = clamped.nanmean(dim=0)
        self.register_buffer("mean", mean)
        variance = (clamped - mean).square().nanmean(dim=0)
        self.register_buffer("scale", variance.sqrt().clamp_min(1e-6))
        categories = [
            (column, code) for column, size in enumerate(CATEGORY_SIZES) for code in range(size)
        ]
        columns, codes = zip(*categories, strict=True)
        self.register_buffer("category_columns", torch.tensor(columns))
        self.register_buffer("category_codes", torch.tensor(codes, dtype=torch.float32))
        angles = [FEATURES.index(name) for name in TURNS]
        self.register_buffer("angle_columns", torch.tensor(angles))
        self.register_buffer("angle_turns", torch.tensor(list(TURNS.values())))
        self.width = sum(CATEGORY_SIZES) + 2 * numbers.shape[1] + 2 * len(TURNS)

    def forward(self, features: Tensor) -> Tensor:
        """f4[n, len(FEATURES)] to f4[n, self.width], finite for any input."""
        one_hot = (features[:, self.category_columns] == self.category_codes).float()
        numbers = features[:, len(CATEGORY_SIZES) :]
        standard = (torch.clamp(numbers, self.low, self.high) - self.mean) / self.scale
        angles = features[:, self.angle_columns] / self.angle_turns * (2 * math.pi)
        known = torch.cat([standard, angles.sin(), angles.cos()], dim=1)
        return torch.cat([one_hot, numbers.isnan().float(), torch.nan_to_num(known)], dim=1)


class LateFlight(nn.Module):
    """Raw features f4[n, len(FEATURES)] to the probability f4[n, 1] of a late arrival, in 0..1.

    Without hidden layers it is a logistic regression.
    """

    def __init__(self, encoder: FeatureEncoder, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        layers: list[nn.Module] = []
        width = encoder.width
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.head = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """f4[n, len(FEATURES)] to f4[n, 1]."""
        return torch.sigmoid(self.head(self.encoder(features)))
