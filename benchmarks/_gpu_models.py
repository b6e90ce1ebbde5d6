"""The two models of gpu.py: a residual network on ImageNet-shaped bytes, and a wide MLP.

Random weights, the same in every run: only the time matters, and that the answer is the model's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kedge.core.datatypes import DATATYPES
from kedge.core.settings import BatchLimits, ExecutionLimits, Placement, QueueLimits
from kedge.core.values import ModelRef, ModelSchema, TensorSpec, VersionManifest
from kedge.proto import ModelInferRequest

if TYPE_CHECKING:
    from torch import nn

ENDPOINT = """\
apiVersion: kedge/v1
kind: Endpoint
name: {name}
inputs:
  - {{name: x, datatype: {datatype}, shape: {in_shape}}}
outputs:
  - {{name: y, datatype: FP32, shape: {out_shape}}}
versions:
  "1": {{model: {path}}}
serving:
  placement: workers
  device: "{device}"
  batching: {{max_batch_size: {batch}}}
"""


@dataclass(frozen=True)
class ModelShape:
    """What a model of the benchmark takes and answers, per row."""

    name: str
    datatype: str
    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's input."""
        return prod(self.in_dims) * DATATYPES[self.datatype].item_bytes

    def batch(self, rows: int) -> NDArray[np.generic]:
        """A batch of inputs, the same in every run."""
        rng = np.random.default_rng(0)
        if self.datatype == "UINT8":
            return rng.integers(0, 256, (rows, *self.in_dims), dtype=np.uint8)
        return rng.standard_normal((rows, *self.in_dims), dtype=np.float32)

    def request(self, rows: int) -> bytes:
        """ModelInfer of that batch, serialized once, with raw contents."""
        request = ModelInferRequest(model_name=self.name)
        request.inputs.add(name="x", datatype=self.datatype, shape=(rows, *self.in_dims))
        request.raw_input_contents.append(self.batch(rows).tobytes())
        return request.SerializeToString()

    def endpoint(self, path: Path, rows: int, device: str) -> str:
        """An endpoint file: every request is a whole batch of `rows`."""
        return ENDPOINT.format(
            name=self.name,
            datatype=self.datatype,
            in_shape=[-1, *self.in_dims],
            out_shape=[-1, *self.out_dims],
            path=path,
            device=device,
            batch=rows,
        )

    def manifest(self, path: Path, rows: int, device: str) -> VersionManifest:
        """The same as an executor gets it; one bucket, as the bare loop has one batch."""
        schema = ModelSchema(
            (TensorSpec("x", DATATYPES[self.datatype], self.in_dims),),
            (TensorSpec("y", DATATYPES["FP32"], self.out_dims),),
            batched=True,
            rows_max=rows,
        )
        execution = ExecutionLimits(Placement.WORKERS, (device,), batch_buckets=(rows,))
        return VersionManifest(
            ModelRef(self.name, 1),
            "pytorch_libtorch",
            path,
            schema,
            BatchLimits(rows_max=rows),
            QueueLimits(),
            b"",
            execution=execution,
        )


# Images travel as bytes: four times less than FP32, and what a decoder yields.
SHAPES = {
    "resnet": ModelShape("resnet", "UINT8", (3, 224, 224), (1000,)),
    "mlp": ModelShape("mlp", "FP32", (1024,), (16,)),
}


def make_model(name: str, folder: Path) -> Path:
    """Traces a model on the CPU and saves it as TorchScript; returns the file."""
    import torch

    torch.manual_seed(0)
    module = {"resnet": resnet, "mlp": mlp}[name]().eval()
    path = folder / f"{name}.pt"
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        example = torch.from_numpy(SHAPES[name].batch(2))
        traced = torch.jit.trace(module, example, check_trace=False)
        torch.jit.save(traced, str(path))
    return path


def mlp() -> nn.Module:
    """1024 -> 8 x 4096 -> 16, 122 million weights: a batch of 256 is 62 GFLOP."""
    from torch import nn

    widths = [1024, *[4096] * 8]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4096, 16))


def resnet() -> nn.Module:
    """The 50-layer residual network of He et al. 2015 (table 1), on bytes 0 to 255: 8.2 GFLOP."""
    import torch
    from torch import nn

    class Block(nn.Module):
        """Three convolutions beside a short cut; the middle one may halve the image."""

        def __init__(self, before: int, inner: int, stride: int) -> None:
            super().__init__()
            after = 4 * inner
            self.way = nn.Sequential(
                *convolution(before, inner, 1),
                nn.ReLU(),
                *convolution(inner, inner, 3, stride),
                nn.ReLU(),
                *convolution(inner, after, 1),
            )
            is_same = before == after and stride == 1
            self.short_cut = (
                nn.Identity() if is_same else nn.Sequential(*convolution(before, after, 1, stride))
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.way(x) + self.short_cut(x))

    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float() / 127.5 - 1

    def convolution(before: int, after: int, size: int, stride: int = 1) -> list[nn.Module]:
        bare = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
        return [bare, nn.BatchNorm2d(after)]

    layers: list[nn.Module] = [Scaled(), *convolution(3, 64, 7, 2), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    width = 64
    for inner, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(blocks):
            layers.append(Block(width, inner, stride if number == 0 else 1))
            width = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))
