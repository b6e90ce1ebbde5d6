"""Models of Triton's Python backend in an executor: requests, responses, refusals, life."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format

from kedge import proto
from kedge.core.datatypes import DATATYPES
from kedge.core.errors import LoadFailed, Status
from kedge.core.ports import BatchResult, Executor
from kedge.core.settings import Compile, ExecutionLimits
from kedge.core.values import ModelFormat, VersionManifest
from kedge.executors.make import make_executor
from kedge.executors.triton_python.config_json import config_json
from kedge.executors.triton_python.executor import TritonPythonExecutor
from kedge.executors.triton_python.model import is_triton_python
from kedge.models.repository import RepositoryModel
from support.triton_python import (
    ADD_SUB,
    ADD_SUB_CONFIG,
    ROW_CONFIG,
    STRINGS,
    STRINGS_CONFIG,
    model_code,
    write_triton_python,
)


def manifest_of(root: Path, code: str, config: str = ROW_CONFIG) -> VersionManifest:
    (manifest,) = RepositoryModel(write_triton_python(root, "m", code, config)).manifests(None)
    return manifest


def make(root: Path, code: str, config: str = ROW_CONFIG) -> Executor:
    return make_executor(manifest_of(root, code, config), allow_model_code=True)


def run(executor: Executor, arrays: Sequence[np.ndarray], batched: bool = True) -> BatchResult:
    dims = [array.shape[1:] if batched else array.shape for array in arrays]
    rows = arrays[0].shape[0] if batched else 1
    buffers = executor.allocate(rows, dims, [array.nbytes for array in arrays])
    for buffer, array in zip(buffers, arrays, strict=True):
        buffer[:] = np.frombuffer(array.tobytes(), np.uint8)
    return submit(executor, rows, dims, buffers)


def submit(executor: Executor, rows: int, dims: Any, buffers: Any) -> BatchResult:
    results: list[tuple[BatchResult, bool]] = []
    executor.submit(rows, dims, buffers, lambda result, final: results.append((result, final)))
    ((result, final),) = results
    assert final
    return result


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1)


def error_of(executor: Executor, *values: float) -> str:
    result = run(executor, [column(*values or (1.0,))])
    assert result.error is not None
    assert not result.outputs
    return str(result.error)


def failure_of(root: Path, code: str, config: str = ROW_CONFIG) -> str:
    with pytest.raises(LoadFailed) as raised:
        make(root, code, config)
    return str(raised.value)


# Requests and responses


def test_a_model_adds_and_subtracts_in_the_types_of_its_configuration(tmp_path: Path) -> None:
    executor = make(tmp_path, ADD_SUB, ADD_SUB_CONFIG)
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    result = run(executor, [a, b])
    assert result.error is None
    assert [output.shape for output in result.outputs] == [(3, 4), (3, 4)]
    sums, differences = result.outputs
    assert sums.data.view(np.float32).tolist() == (a * 2 + b * 2).reshape(-1).tolist()
    expected = (a * 2 - b * 2).astype(np.int32)
    assert differences.data.view(np.int32).tolist() == expected.reshape(-1).tolist()
    assert isinstance(executor, TritonPythonExecutor)
    assert executor.batches_free == 1


def test_the_rows_of_a_batch_are_one_request_that_tells_what_is_known(tmp_path: Path) -> None:
    told = """
facts = [
    len(requests), x.shape, request.request_id(), request.correlation_id(), request.parameters(),
    request.requested_output_names(), request.model_name(), request.model_version(),
    request.flags(), request.timeout(), request.is_cancelled(), request.inputs()[0].is_cpu(),
    request.inputs()[0].shape(), request.inputs()[0].triton_dtype(),
    pb_utils.get_input_tensor_by_name(request, "nowhere"),
]
return [pb_utils.InferenceResponse(error=pb_utils.TritonError(repr(facts)))]"""
    facts = error_of(make(tmp_path, model_code(told)), 1, 2, 3)
    assert facts == repr(
        [1, (3, 1), "", 0, "{}", ["y"], "m", 1, 0, 0, False, True, [3, 1], 11, None]
    )


def test_without_a_batch_dimension_shapes_are_whole(tmp_path: Path) -> None:
    config = """
backend: "python"
input { name: "x" data_type: TYPE_FP64 dims: [ 2, -1 ] }
output { name: "y" data_type: TYPE_FP64 dims: [ 1 ] }
"""
    executor = make(tmp_path, model_code("return [response(x.sum().reshape(1))]"), config)
    result = run(executor, [np.arange(6.0).reshape(2, 3)], batched=False)
    assert result.error is None
    assert result.outputs[0].shape == (1,)
    assert result.outputs[0].data.view(np.float64).tolist() == [15]


@pytest.mark.parametrize("name", [name for name in DATATYPES if name != "BYTES"])
def test_every_datatype_goes_through_bit_by_bit_and_in_place(tmp_path: Path, name: str) -> None:
    declared = DATATYPES[name]
    config = ROW_CONFIG.replace("TYPE_FP32", declared.config_name).replace("[ 1 ]", "[ -1 ]")
    execute = "tensor = request.inputs()[0]\n"
    execute += "again = pb_utils.Tensor.from_dlpack('y', tensor.to_dlpack())\n"
    if name != "BF16":
        execute += "assert np.shares_memory(again.as_numpy(), tensor.as_numpy())\n"
    execute += "return [pb_utils.InferenceResponse([again])]"
    code = model_code(execute).replace("x = request.inputs()[0].as_numpy()", "")
    executor = make(tmp_path, code, config)
    x = np.random.default_rng(1).integers(0, 2, (3, 5)).astype(declared.numpy)
    raw = np.frombuffer(x.tobytes(), np.uint8).copy()
    result = submit(executor, 3, [(5,)], [raw])
    assert result.error is None
    (output,) = result.outputs
    assert output.shape == (3, 5)
    assert output.data.tobytes() == x.tobytes()
    assert np.shares_memory(output.data, raw)


def test_an_input_is_a_writable_view_of_the_batch_s_memory(tmp_path: Path) -> None:
    executor = make(tmp_path, model_code("x += 1\nreturn [response(x * 10)]"))
    raw = column(1, 2).view(np.uint8).reshape(-1)
    result = submit(executor, 2, [(1,)], [raw])
    assert raw.view(np.float32).tolist() == [2, 3]
    assert result.outputs[0].data.view(np.float32).tolist() == [20, 30]


def test_strings_are_bytes_of_any_kind(tmp_path: Path) -> None:
    executor = make(tmp_path, STRINGS, STRINGS_CONFIG)
    rows = [[b"ab\0", b"", b"\xff\xfe"], ["ä".encode(), b"12345", b"\0\0"]]
    raw = b"".join(len(one).to_bytes(4, "little") + one for row in rows for one in row)
    result = submit(executor, 2, [(3,)], [np.frombuffer(raw, np.uint8)])
    assert result.error is None
    (output,) = result.outputs
    turned = [[one[::-1] for one in row] for row in rows]
    parts = [b"".join(len(one).to_bytes(4, "little") + one for one in row) for row in turned]
    assert output.shape == (2, 3)
    assert output.data.tobytes() == b"".join(parts)
    assert output.row_ends is not None
    assert output.row_ends.tolist() == [len(parts[0]), len(parts[0]) + len(parts[1])]


def test_outputs_go_by_name_and_those_not_declared_are_left_out(tmp_path: Path) -> None:
    config = ROW_CONFIG + 'output { name: "z" data_type: TYPE_FP32 dims: [ 1 ] }'
    code = model_code("return [response(x * 3, x, x * 2, names=('z', 'other', 'y'))]")
    result = run(make(tmp_path, code, config), [column(5)])
    assert [output.data.view(np.float32)[0] for output in result.outputs] == [10, 15]


@pytest.mark.parametrize(
    "execute",
    [
        "return [response(np.broadcast_to(np.float32(7), x.shape))]",
        "return [response(np.frombuffer(np.full_like(x, 7).tobytes(), 'f4').reshape(x.shape))]",
        "return [response(np.full((2, 3), 7, np.float32)[:, ::-3])]",
        "return (response(np.full_like(x, 7)),)",
        "import torch\n"
        "tensor = torch.full((2, 1), 7.0, requires_grad=True).detach()\n"
        "return [pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack('y', tensor)])]",
        "import torch\n"
        "tensor = torch.full((1, 2), 7.0).t()\n"
        "return [pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack('y', tensor)])]",
    ],
)
def test_any_memory_layout_is_a_legal_output(tmp_path: Path, execute: str) -> None:
    result = run(make(tmp_path, model_code(execute)), [column(1, 2)])
    assert result.error is None
    assert result.outputs[0].data.view(np.float32).tolist() == [7, 7]


def test_execute_may_be_a_coroutine(tmp_path: Path) -> None:
    code = model_code("return [response(x + 1)]").replace("def execute", "async def execute")
    assert run(make(tmp_path, code), [column(1)]).outputs[0].data.view(np.float32) == [2]


@pytest.mark.parametrize(
    ("execute", "message"),
    [
        ("return None", "expected a list of 1 response for 1 request, got None; answers through"),
        ("return []", "expected a list of 1 response for 1 request, got 0"),
        ("return [response(x), response(x)]", "for 1 request, got 2"),
        ("return response(x)", "for 1 request, got InferenceResponse"),
        ("return [None]", "for 1 request, got a list of NoneType"),
        ("return [pb_utils.InferenceResponse([x])]", "expected outputs of pb_utils.Tensor"),
        ("return [response()]", r"output 'y' is missing, got \[\]"),
        ("return [response(x, names=['Y'])]", r"output 'y' is missing, got \['Y'\]"),
        ("return [response(x.astype(float))]", "output 'y': expected FP32, got FP64"),
        ("return [response(x.astype(object))]", "output 'y': expected FP32, got BYTES"),
        ("return [response(x[:1])]", r"output 'y': expected shape \[2, 1\], got \[1, 1\]"),
        ("return [response(x[:, 0])]", r"output 'y': expected shape \[2, 1\], got \[2\]"),
        ("return [response(x.tolist())]", "tensor 'y': expected a numpy.ndarray, got list"),
        ("return [response(x.astype(str))]", "dtype <U32 is none .*; use numpy.object_"),
        ("return [response(x.astype('>f4'))]", "dtype >f4 is none of the protocol's"),
    ],
)
def test_what_breaks_the_declaration_is_told(tmp_path: Path, execute: str, message: str) -> None:
    executor = make(tmp_path, model_code(execute))
    result = run(executor, [column(1, 2)])
    assert result.error is not None
    assert result.error.status is Status.INTERNAL
    with pytest.raises(type(result.error), match=message):
        raise result.error


def test_the_shape_of_strings_is_checked(tmp_path: Path) -> None:
    config = ROW_CONFIG.replace('"y" data_type: TYPE_FP32', '"y" data_type: TYPE_STRING')
    code = model_code("return [response(x.astype(object)[:, [0, 0]])]")
    assert "'y': expected shape [1, 1], got [1, 2]" in error_of(make(tmp_path, code, config))


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        ("'too old'", Status.INTERNAL, "too old"),
        ("'too old', pb_utils.TritonError.INVALID_ARG", Status.INVALID_ARGUMENT, "too old"),
        ("'later', code=pb_utils.TritonError.UNAVAILABLE", Status.UNAVAILABLE, "later"),
        ("'never', pb_utils.TritonError.UNSUPPORTED", Status.UNIMPLEMENTED, "never"),
        ("'gone', pb_utils.TritonError.NOT_FOUND", Status.INTERNAL, "gone"),
    ],
)
def test_an_error_in_the_response_is_the_batch_s_in_its_own_words(
    tmp_path: Path, error: str, status: Status, text: str
) -> None:
    execute = f"error = pb_utils.TritonError({error})\n"
    execute += "return [pb_utils.InferenceResponse(output_tensors=[], error=error)]"
    result = run(make(tmp_path, model_code(execute)), [column(1)])
    assert result.error is not None
    assert (result.error.status, str(result.error)) == (status, text)


def test_an_exception_is_the_batch_s_and_the_next_batch_runs(tmp_path: Path) -> None:
    execute = "if x.max() > 2:\n    raise pb_utils.TritonModelException('above 2')\n"
    executor = make(tmp_path, model_code(execute + "return [response(x)]"))
    assert error_of(executor, 1, 3) == "model 'm:1' failed: above 2"
    assert run(executor, [column(1)]).error is None


# What is not here


@pytest.mark.parametrize(
    ("execute", "name"),
    [
        ("request.get_response_sender().send(response(x))", "get_response_sender"),
        (
            "pb_utils.InferenceRequest(model_name='other', inputs=request.inputs(),"
            " requested_output_names=['y']).exec()",
            "InferenceRequest.exec",
        ),
        ("pb_utils.InferenceRequest(model_name='other').async_exec()", "async_exec"),
        ("request.trace()", "InferenceRequest.trace"),
        ("pb_utils.PreferredMemory(0, 0)", "PreferredMemory"),
        ("pb_utils.load_model(model_name='other')", "load_model"),
        ("pb_utils.MetricFamily(name='n', description='d', kind=0)", "MetricFamily"),
        ("pb_utils.SharedMemory()", "SharedMemory"),
        ("pb_utils.InferenceResponse([], parameters={'a': 1})", "parameters"),
    ],
)
def test_what_kedge_lacks_is_refused_by_its_name(tmp_path: Path, execute: str, name: str) -> None:
    message = error_of(make(tmp_path, model_code(execute)))
    assert name in message
    assert "not in this version of Kedge" in message


def test_a_refused_name_is_told_at_load_if_it_is_imported(tmp_path: Path) -> None:
    code = model_code("pass", before="from triton_python_backend_utils import MetricFamily")
    assert "line 4: NotInKedge: MetricFamily: a model has metrics" in failure_of(tmp_path, code)


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        (ExecutionLimits(compile=Compile.AOTINDUCTOR), "compile: aotinductor: TritonPythonModel"),
        (ExecutionLimits(deterministic=True), "batching.deterministic: TritonPythonModel"),
        (ExecutionLimits(batch_buckets=(4,)), "batching.buckets: TritonPythonModel"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    tmp_path: Path, execution: ExecutionLimits, message: str
) -> None:
    manifest = replace(manifest_of(tmp_path, model_code("pass")), execution=execution)
    with pytest.raises(LoadFailed, match=message):
        make_executor(manifest, allow_model_code=True)


def test_a_device_is_refused(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, model_code("pass"))
    with pytest.raises(LoadFailed, match="runs on the CPU only, not on cuda:0; declare KIND_CPU"):
        make_executor(manifest, "cuda:0", allow_model_code=True)


def test_code_is_not_even_imported_without_the_option(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    manifest = manifest_of(tmp_path, model_code("pass", before=f"open({str(marker)!r}, 'w')"))
    with pytest.raises(LoadFailed, match=r"python is code .* --allow-model-code"):
        make_executor(manifest, allow_model_code=False)
    assert not marker.exists()
    make_executor(manifest, allow_model_code=True)
    assert marker.exists()


def test_a_file_that_was_declared_as_something_else_is_not_loaded(tmp_path: Path) -> None:
    manifest = replace(
        manifest_of(tmp_path, model_code("pass")),
        format=ModelFormat.TORCHSCRIPT,
        is_format_declared=True,
    )
    with pytest.raises(LoadFailed, match="declared as torchscript, but it is python"):
        make_executor(manifest, allow_model_code=True)


# Life


def test_initialize_gets_triton_s_arguments_as_strings(tmp_path: Path) -> None:
    said = tmp_path / "args.json"
    before = "import json\nfrom pathlib import Path\nimport helper, beside"
    methods = f"def initialize(self, args):\n        Path({str(said)!r}).write_text("
    methods += "json.dumps([args, helper.NAME, beside.NAME]))"
    code = model_code("pass", before, methods)
    config = ROW_CONFIG + 'default_model_filename: "deep/code.py" instance_group { count: 2 }'
    folder = write_triton_python(tmp_path, "m", "", config, version=3)
    (folder / "3" / "deep").mkdir()
    (folder / "3" / "deep" / "code.py").write_text(code)
    (folder / "3" / "deep" / "helper.py").write_text("NAME = 'helper'")
    (folder / "beside.py").write_text("NAME = 'beside'")
    (manifest,) = RepositoryModel(folder).manifests(None)
    make_executor(manifest, allow_model_code=True)
    args, *helpers = json.loads(said.read_text())
    assert helpers == ["helper", "beside"]
    assert all(isinstance(value, str) for value in args.values())
    assert args.pop("model_instance_name").startswith("m_0_")
    config_seen = json.loads(args.pop("model_config"))
    assert (config_seen["name"], config_seen["max_batch_size"]) == ("m", 8)
    assert config_seen["input"][0]["dims"] == [1]
    assert args == {
        "model_name": "m",
        "model_version": "3",
        "model_repository": str(folder),
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }


def test_the_configuration_is_protobuf_s_json_with_numbers_for_numbers(tmp_path: Path) -> None:
    more = "version_policy { specific { versions: [ 1, 9007199254740993 ] } }"
    more += 'output { name: "l" data_type: TYPE_BF16 dims: [ -1 ] label_filename: "labels" }'
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "labels").write_text("a")
    serialized = manifest_of(tmp_path, model_code("pass"), ADD_SUB_CONFIG + more).config
    config = proto.ModelConfig.FromString(serialized)
    seen = json.loads(config_json(config))
    expected = json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )

    def numbers(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: numbers(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [numbers(item, key) for item in value]
        is_64_bits = key in {"dims", "versions"} or key.endswith(("_microseconds", "_level"))
        return int(value) if is_64_bits or key == "priority_levels" else value

    assert seen == numbers(expected)
    assert seen["version_policy"]["specific"]["versions"] == [1, 9007199254740993]
    assert seen["parameters"] == {"scale": {"string_value": "2.0"}}
    assert seen["output"][2]["data_type"] == "TYPE_BF16"


def test_a_model_outside_of_a_repository_has_its_folder_as_repository(tmp_path: Path) -> None:
    code = "return [pb_utils.InferenceResponse(error=pb_utils.TritonError(self.folder))]"
    methods = "def initialize(self, args):\n        self.folder = args['model_repository']"
    manifest = manifest_of(tmp_path, model_code(code, methods=methods))
    folder = (tmp_path / "m" / "1").rename(tmp_path / "fraud")
    executor = make_executor(replace(manifest, path=folder), allow_model_code=True)
    assert error_of(executor) == str(folder)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class TritonPythonModel:\n    pass", "TritonPythonModel has no method execute"),
        ("TritonPythonModel = 3", "has no class TritonPythonModel"),
        ("if None:\n    import TritonPythonModel", "has no class TritonPythonModel"),
        ("class TritonPythonModel:\n    x = 1 / 0", "line 2: ZeroDivisionError"),
        (
            "class TritonPythonModel:\n    def initialize(self, args):\n        exit(3)",
            "line 3: SystemExit: 3",
        ),
        (
            "class TritonPythonModel:\n    def __init__(self):\n        raise KeyError(1)",
            "line 3: KeyError: 1",
        ),
    ],
)
def test_a_model_that_does_not_load_says_where(tmp_path: Path, code: str, message: str) -> None:
    assert message in failure_of(tmp_path, code)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("class TritonPythonModel: ...", True),
        ("from shared import Model as TritonPythonModel", True),
        ("import x\nTritonPythonModel = x.make()", True),
        ("try:\n    from a import TritonPythonModel\nexcept ImportError:\n    pass", True),
        ("try:\n    pass\nexcept ImportError:\n    class TritonPythonModel: ...", True),
        ("if True:\n    pass\nelse:\n    class TritonPythonModel: ...", True),
        ("def load(path): ...\nclass TritonPythonModel: ...", True),
        ("def load(path):\n    class TritonPythonModel: ...", False),
        ("# class TritonPythonModel", False),
        ("class TritonPythonModel", False),
        ("\0", False),
    ],
)
def test_a_model_is_recognized_by_its_text(tmp_path: Path, code: str, expected: bool) -> None:
    file = tmp_path / "model.py"
    file.write_text(code)
    assert is_triton_python(file) is is_triton_python(tmp_path) is expected
    assert not is_triton_python(tmp_path / "nowhere")
    other = file.rename(tmp_path / "model.pt")
    assert not is_triton_python(other)


def test_execute_runs_for_clients_only(tmp_path: Path) -> None:
    methods = "calls = 0"
    execute = "TritonPythonModel.calls += 1\nreturn [response(x * 0 + TritonPythonModel.calls)]"
    executor = make(tmp_path, model_code(execute, methods=methods))
    assert run(executor, [column(5)]).outputs[0].data.view(np.float32) == [1]


def test_finalize_runs_once_and_what_it_raises_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    methods = "def finalize(self):\n        pb_utils.Logger.log_warn('over')\n        raise OSError"
    executor = make(tmp_path, model_code("return [response(x)]", methods=methods))
    executor.close()
    executor.close()
    assert [record.getMessage() for record in caplog.records] == [
        "over",
        "model.finalize_failed m:1",
    ]
    make(tmp_path / "without", model_code("return [response(x)]")).close()
