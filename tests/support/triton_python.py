"""Models for Triton's Python backend, written as its users write them, and where they lie."""

from __future__ import annotations

from pathlib import Path

# Two inputs, their sum and their difference in the types that the configuration names.
ADD_SUB = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.types = [
            pb_utils.triton_string_to_numpy(
                pb_utils.get_output_config_by_name(config, name)["data_type"]
            )
            for name in ("OUTPUT0", "OUTPUT1")
        ]
        self.scale = float(config["parameters"]["scale"]["string_value"])

    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() * self.scale
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy() * self.scale
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor("OUTPUT0", (a + b).astype(self.types[0])),
                        pb_utils.Tensor("OUTPUT1", (a - b).astype(self.types[1])),
                    ]
                )
            )
        return responses
"""
ADD_SUB_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }
input { name: "INPUT1" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 4 ] }
parameters { key: "scale" value { string_value: "2.0" } }
instance_group { kind: KIND_CPU }
dynamic_batching {}
"""

# Elements turned around, byte by byte, and where each came from.
STRINGS = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
            assert text.dtype == np.object_
            turned = np.array([one[::-1] for one in text.reshape(-1)], dtype=np.object_)
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("turned", turned.reshape(text.shape))])
            )
        return responses
"""
STRINGS_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "text" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "turned" data_type: TYPE_STRING dims: [ -1 ] }
dynamic_batching {}
"""

# One input x and one output y of one number per row; `execute` is what a test is about.
ROW_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
dynamic_batching {}
"""


def model_code(execute: str, before: str = "", methods: str = "") -> str:
    """A model.py; execute: its body, where `request` and its array `x` are known."""
    body = "\n        ".join(execute.strip().splitlines())
    return f"""
import numpy as np
import triton_python_backend_utils as pb_utils
{before}

def response(*arrays, names=("y",)):
    tensors = [pb_utils.Tensor(name, array) for name, array in zip(names, arrays)]
    return pb_utils.InferenceResponse(output_tensors=tensors)


class TritonPythonModel:
    {methods}

    def execute(self, requests):
        (request,) = requests
        x = request.inputs()[0].as_numpy()
        {body}
"""


def write_triton_python(
    repository: Path, name: str, code: str, config: str = ROW_CONFIG, version: int = 1
) -> Path:
    """NAME/config.pbtxt and NAME/VERSION/model.py; the model's folder."""
    folder = repository / name
    (folder / str(version)).mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / str(version) / "model.py").write_text(code)
    return folder
