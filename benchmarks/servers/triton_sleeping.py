"""The peer Triton: an identity of its python backend that takes 5 ms a batch, like sleeping.py."""

import time
from typing import Any

import triton_python_backend_utils as pb_utils

BATCH_S = 0.005


class TritonPythonModel:
    """Answers each request of a batch with its own input, after a while."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in the same order."""
        time.sleep(BATCH_S)
        responses = []
        for request in requests:
            rows = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", rows)]))
        return responses
