"""Length buckets with a real model and stock clients."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from support.server import serving
from support.torchscript import save

ENDPOINT = """\
apiVersion: kedge/v1
kind: Endpoint
name: encoder
inputs:
  - {name: ids, datatype: INT64, shape: [-1, -1]}
  - {name: mask, datatype: INT64, shape: [-1, -1]}
outputs:
  - {name: tokens, datatype: FP32, shape: [-1, -1, 4]}
  - {name: mean, datatype: FP32, shape: [-1, 4]}
versions: {"1": {model: m.pt}}
serving: {batching: {max_batch_size: 16, max_queue_delay: 200ms, length_buckets: [8, 16]}}
"""


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 4)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.embedding(ids) * mask.unsqueeze(-1)
        return tokens, tokens.sum(1) / mask.sum(1, keepdim=True)


def inputs_of(ids: np.ndarray) -> list[triton.InferInput]:  # type: ignore[type-arg]
    tensors = []
    for name, array in (("ids", ids), ("mask", np.ones_like(ids))):
        tensor = triton.InferInput(name, ids.shape, "INT64")
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


def test_sentences_of_all_lengths_are_answered_as_if_alone_and_in_shared_batches(
    tmp_path: Path,
) -> None:
    torch.manual_seed(1)
    model = Encoder()
    save(model, tmp_path / "m.pt")
    (tmp_path / "encoder.yaml").write_text(ENDPOINT)
    random = np.random.default_rng(1)
    sentences = [random.integers(0, 50, (1, length)) for length in range(1, 17)]
    with (
        serving("encoder.yaml", folder=tmp_path) as server,
        triton.InferenceServerClient(server.grpc) as client,
    ):
        with ThreadPoolExecutor(len(sentences)) as pool:
            answers = list(pool.map(lambda ids: client.infer("encoder", inputs_of(ids)), sentences))
        for ids, answer in zip(sentences, answers, strict=True):
            with torch.no_grad():
                tokens, mean = model(torch.from_numpy(ids), torch.ones(ids.shape).long())
            assert answer.as_numpy("tokens").shape == (*ids.shape, 4)
            np.testing.assert_allclose(answer.as_numpy("tokens"), tokens.numpy(), rtol=1e-5)
            np.testing.assert_allclose(answer.as_numpy("mean"), mean.numpy(), rtol=1e-5)
        statistics = client.get_inference_statistics("encoder", as_json=True)["model_stats"][0]
        assert int(statistics["inference_count"]) == len(sentences)
        assert int(statistics["execution_count"]) < len(sentences) / 2
        with pytest.raises(InferenceServerException) as refused:
            client.infer("encoder", inputs_of(np.zeros((1, 17), np.int64)))
        assert "'ids': expected a length of at most 16" in refused.value.message()
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
