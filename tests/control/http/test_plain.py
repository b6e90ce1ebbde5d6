"""Messages as JSON values; protobuf's own JSON is the oracle where the two agree."""

from __future__ import annotations

import json

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2

from kedge import proto
from kedge.control.http.plain import plain

CONFIG = model_config_pb2.ModelConfig(
    name="m",
    max_batch_size=8,
    input=[{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 3]}],
    version_policy={"specific": {"versions": [1, 2**40]}},
    dynamic_batching={"max_queue_delay_microseconds": 7, "priority_queue_policy": {3: {}}},
    parameters={"key": {"string_value": "ü"}},
)


def our_config() -> proto.ModelConfig:
    return proto.ModelConfig.FromString(CONFIG.SerializeToString())


def as_text(value: object) -> object:
    """All leaves as strings, because protobuf's JSON has 64-bit integers as such."""
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return str(value)


def test_fields_are_those_of_protobufs_json_with_its_defaults() -> None:
    expected = json_format.MessageToDict(
        our_config(), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert as_text(plain(our_config())) == as_text(expected)


def test_integers_of_64_bits_stay_numbers() -> None:
    described = json.loads(json.dumps(plain(our_config())))
    assert described["input"][0]["dims"] == [-1, 3]
    assert described["version_policy"] == {"specific": {"versions": [1, 2**40]}}
    assert described["dynamic_batching"]["max_queue_delay_microseconds"] == 7


def test_submessages_that_are_not_set_are_left_out() -> None:
    described = plain(our_config())
    assert "sequence_batching" not in described
    assert described["backend"] == ""
    assert described["output"] == []


def test_bytes_are_base64_and_unknown_enum_values_stay_numbers() -> None:
    message = service_pb2.InferTensorContents(bytes_contents=[b"\xff\0"])
    ours = proto.InferTensorContents.FromString(message.SerializeToString())
    assert plain(ours)["bytes_contents"] == ["/wA="]
    config = proto.ModelInput(data_type=99)  # type: ignore[arg-type]
    assert plain(config)["data_type"] == 99
