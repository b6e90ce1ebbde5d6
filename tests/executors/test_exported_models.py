"""Ordinary models pass the inspection of their graph: layers, dynamic lengths, control flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kedge.executors.exported import load_exported, program_call

Case = tuple[torch.nn.Module, tuple[torch.Tensor, ...], dict[int, object] | None]


class Cnn(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(inplace=True),
            torch.nn.MaxPool2d(2),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Dropout(),
            torch.nn.Linear(8, 4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).softmax(-1)


class Tokens(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(100, 16)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(ids.shape[1], device=ids.device) < ids.shape[1] // 2 + 1
        hidden = self.encoder(self.embed(ids)) * mask[None, :, None]
        return torch.einsum("bld,d->bl", hidden, torch.ones(16)).flip(-1)


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0][:, -1]


class Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda t: t * 2, lambda t: t - 1, (x,))


class Shapes(torch.nn.Module):
    """Arithmetic of sizes: windows of four, the rest cut off, padded again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        windows = x[:, : length // 4 * 4].reshape(x.shape[0], length // 4, 4).mean(-1)
        padded = torch.nn.functional.pad(windows, (0, length - length // 4))
        return torch.cat([padded, x[:, : length % 3 + 1]], 1)


class Bits(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return (x & 3) | (x << 1) ^ (x >> 2)


BATCH, LENGTH = torch.export.Dim("batch", max=64), torch.export.Dim("length", min=4, max=128)
AUTO = torch.export.Dim.AUTO
CASES: dict[str, Callable[[], Case]] = {
    "cnn": lambda: (Cnn(), (torch.randn(2, 3, 16, 16),), {0: BATCH}),
    "tokens": lambda: (Tokens(), (torch.randint(0, 100, (2, 9)),), {0: BATCH, 1: LENGTH}),
    "recurrent": lambda: (Recurrent(), (torch.randn(3, 5, 4),), None),
    "branch": lambda: (Branch(), (torch.randn(3, 5),), {0: BATCH}),
    "shapes": lambda: (Shapes(), (torch.randn(3, 11),), {0: AUTO, 1: AUTO}),
    "bits": lambda: (Bits(), (torch.arange(6),), {0: BATCH}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("decomposed", [False, True])
def test_an_ordinary_model_answers_as_before(tmp_path: Path, name: str, decomposed: bool) -> None:
    torch.manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():
        module, inputs, dynamic = CASES[name]()
        program = torch.export.export(
            module.eval(), inputs, dynamic_shapes=(dynamic,) if dynamic else None
        )
        if decomposed:
            program = program.run_decompositions()
        torch.export.save(program, tmp_path / "m.pt2")
        expected = module(*inputs)
        loaded = load_exported(tmp_path / "m.pt2")
        torch.testing.assert_close(program_call(loaded)(*inputs), expected)
