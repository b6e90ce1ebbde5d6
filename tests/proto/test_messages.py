"""The message classes in use: beside tritonclient's, over bytes, and from a config.pbtxt."""

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2, service_pb2

import kedge.proto

THEIRS = {
    name: getattr(module, name)
    for module in (service_pb2, model_config_pb2)
    for name in module.DESCRIPTOR.message_types_by_name
}

CONFIG_PBTXT = """
name: "fraud"
platform: "pytorch_libtorch"
max_batch_size: 64
input [
  { name: "INPUT0", data_type: TYPE_FP32, dims: [ -1, 8 ], reshape { shape: [ 8 ] } },
  { name: "INPUT1" data_type: TYPE_STRING dims: 1 optional: true }
]
output [ { name: "SCORE", data_type: TYPE_FP32, dims: [ 1 ], label_filename: "labels.txt" } ]
version_policy: { specific { versions: [ 1, 3 ] } }
instance_group [ { count: 2, kind: KIND_GPU, gpus: [ 0, 1 ] }, { kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: [ 8, 16 ]
  max_queue_delay_microseconds: 200
  priority_levels: 2
  default_queue_policy { timeout_action: DELAY, max_queue_size: 100 }
  priority_queue_policy { key: 1, value { default_timeout_microseconds: 5000 } }
}
parameters { key: "INFERENCE_MODE" value: { string_value: "true" } }
model_warmup [
  { name: "zeros", batch_size: 1
    inputs { key: "INPUT0", value { data_type: TYPE_FP32, dims: [ 8 ], zero_data: true } } }
]
response_cache { enable: true }
model_metrics {
  metric_control {
    metric_identifier { family: "nv_inference_first_response_histogram_ms" }
    histogram_options { buckets: [ 1, 2.5, 4 ] }
  }
}
"""


def fill_field(message: Message, field: Any) -> None:
    """Sets one field to values that are not its default, two of them where it repeats."""
    if field.message_type is None:
        if field.type == FieldDescriptor.TYPE_ENUM:
            value = field.enum_type.values[-1].number
        else:
            value = {
                FieldDescriptor.TYPE_STRING: f"é{field.number}",
                FieldDescriptor.TYPE_BYTES: bytes([0, 255, field.number]),
                FieldDescriptor.TYPE_BOOL: True,
            }.get(field.type, 300 + field.number)
        if field.is_repeated:
            getattr(message, field.name).extend([value, value])
        else:
            setattr(message, field.name, value)
    elif not field.message_type.GetOptions().map_entry:
        target = getattr(message, field.name)
        fill(target.add() if field.is_repeated else target)
    else:
        entries, value_field = (getattr(message, field.name), field.message_type.fields[1])
        is_text_key = field.message_type.fields[0].type == FieldDescriptor.TYPE_STRING
        for key in ("a", "b") if is_text_key else (1, 2):
            if value_field.message_type is None:
                entries[key] = "value"
            else:
                fill(entries[key])


def fill(message: Message) -> Message:
    """Sets every field of a message, at every depth; of a oneof the last member stays."""
    message.SetInParent()
    for field in message.DESCRIPTOR.fields:
        fill_field(message, field)
    return message


def text(message: Message) -> str:
    return text_format.MessageToString(message, print_unknown_fields=True, use_index_order=False)


@pytest.mark.parametrize("name", THEIRS)
def test_filled_messages_of_tritonclient_and_ours_read_each_other(name: str) -> None:
    ours, theirs = fill(getattr(kedge.proto, name)()), fill(THEIRS[name]())
    ours_read = type(ours).FromString(theirs.SerializeToString())
    theirs_read = type(theirs).FromString(ours.SerializeToString())
    assert ours_read == ours
    assert theirs_read == theirs
    assert text(ours) == text(theirs)
    assert bool(text(ours)) is bool(theirs.DESCRIPTOR.fields)


@pytest.mark.parametrize(
    "imports", ["kedge.proto, tritonclient.grpc", "tritonclient.grpc, kedge.proto"]
)
def test_both_libraries_load_in_one_process_in_either_order(imports: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {imports}"], check=True, timeout=60)


def test_import_brings_in_no_library_but_protobuf() -> None:
    heavy = "{'grpc', 'numpy', 'numba', 'torch'} & sys.modules.keys()"
    command = f"import sys, kedge.proto; sys.exit(', '.join({heavy}) or None)"
    subprocess.run([sys.executable, "-c", command], check=True, timeout=60)


def test_config_pbtxt_parses_to_the_same_bytes_as_with_tritonclient() -> None:
    ours = text_format.Parse(CONFIG_PBTXT, kedge.proto.ModelConfig())
    theirs = text_format.Parse(CONFIG_PBTXT, model_config_pb2.ModelConfig())
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )
    assert ours.input[0].data_type == kedge.proto.TYPE_FP32
    assert list(ours.input[0].dims) == [-1, 8]
    assert ours.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert ours.dynamic_batching.priority_queue_policy[1].default_timeout_microseconds == 5000
    assert ours.parameters["INFERENCE_MODE"].string_value == "true"


def test_config_pbtxt_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(text_format.ParseError, match="max_batch_sise"):
        text_format.Parse("max_batch_sise: 8", kedge.proto.ModelConfig())


def test_enums_map_names_to_numbers_and_back() -> None:
    assert kedge.proto.DataType.Value("TYPE_FP32") == kedge.proto.TYPE_FP32 == 11
    assert kedge.proto.DataType.Name(14) == "TYPE_BF16"
    kind = kedge.proto.ModelInstanceGroup.Kind
    assert kind.Name(kedge.proto.ModelInstanceGroup.KIND_CPU) == "KIND_CPU"
    with pytest.raises(ValueError, match="TYPE_FP8"):
        kedge.proto.DataType.Value("TYPE_FP8")


def test_health_and_control_messages_have_their_published_bytes() -> None:
    response = kedge.proto.HealthCheckResponse
    assert response(status=response.SERVING).SerializeToString() == b"\x08\x01"
    assert response(status=response.NOT_SERVING).SerializeToString() == b"\x08\x02"
    assert response(status=response.SERVICE_UNKNOWN).SerializeToString() == b"\x08\x03"
    assert kedge.proto.HealthCheckRequest(service="a").SerializeToString() == b"\x0a\x01a"
    assert kedge.proto.MetricsReply(snapshot_json=b"{}").SerializeToString() == b"\x0a\x02{}"
