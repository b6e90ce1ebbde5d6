"""The peer Triton: an identity model of its python backend, which imports the helper module."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers each request of a batch with its own input."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in the same order."""
        responses = []
        for request in requests:
            rows = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", rows)]))
        return responses
