"""config.pbtxt and JSON to a completed message; tritonclient's own message is the oracle."""

from __future__ import annotations

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from kedge import proto
from kedge.core.errors import RepositoryFailed
from kedge.models.pbtxt import CONFIG_BYTES_MAX, complete, parse_json, parse_text
from support.repositories import CONFIG


def completed(text: str, name: str = "flights") -> model_config_pb2.ModelConfig:
    """What a client gets for a config.pbtxt, parsed by tritonclient."""
    message = complete(parse_text(text.encode(), "here"), name)
    return model_config_pb2.ModelConfig.FromString(message.SerializeToString())


def test_a_file_means_what_tritons_own_message_reads_in_it() -> None:
    ours = parse_text(CONFIG.encode(), "here").SerializeToString()
    theirs = text_format.Parse(CONFIG, model_config_pb2.ModelConfig())
    assert model_config_pb2.ModelConfig.FromString(ours) == theirs


def test_json_means_the_same_as_text_in_both_spellings_of_names() -> None:
    text = parse_text(CONFIG.encode(), "here")
    for keeps_names in (True, False):
        json = json_format.MessageToJson(text, preserving_proto_field_name=keeps_names)
        assert parse_json(json, "here") == text


def test_defaults_are_filled_in_as_triton_shows_them() -> None:
    config = completed(CONFIG)
    assert config.name == "flights"
    assert (config.platform, config.backend) == ("pytorch_libtorch", "pytorch")
    assert config.version_policy.latest.num_versions == 1
    assert config.default_model_filename == "model.pt"
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    (group,) = config.instance_group
    assert (group.name, group.count) == ("flights", 1)
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize("runtime", ["", 'backend: "pytorch"', 'platform: "pytorch_libtorch"'])
def test_platform_and_backend_complete_each_other(runtime: str) -> None:
    config = completed(runtime)
    assert (config.platform, config.backend) == ("pytorch_libtorch", "pytorch")


def test_a_foreign_runtime_is_not_made_ours() -> None:
    assert completed('platform: "onnxruntime_onnx"').backend == ""
    assert completed('backend: "python"').platform == ""


def test_what_is_written_stays() -> None:
    config = completed(
        'name: "own" default_model_filename: "a.pt" version_policy { all {} }'
        'instance_group [ { count: 2 kind: KIND_GPU }, { name: "second" } ]'
        "dynamic_batching { preferred_batch_size: [ 2, 4 ] }"
    )
    assert config.name == "own"
    assert config.default_model_filename == "a.pt"
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert [group.name for group in config.instance_group] == ["own_0", "second"]
    assert config.instance_group[0].count == 2
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 4]


def test_completing_leaves_the_original_alone() -> None:
    message = proto.ModelConfig()
    complete(message, "flights")
    assert message == proto.ModelConfig()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"max_batch_size: 8\nmax_batchsize: 4", "2:1 : "),
        (b"max_batchsize: 4", "Did you mean 'max_batch_size'?"),
        (b"input { dimz: 4 }", "Did you mean 'dims'?"),
        (b"input { data_type: TYPE_FLOAT }", "TYPE_FLOAT"),
        (b"max_batch_size: many", "1:17"),
        (b"input {", "1:7"),
        (b"\xff", "expected UTF-8, byte 0 is not"),
        (b"# \n" * (CONFIG_BYTES_MAX // 3 + 1), f"expected at most {CONFIG_BYTES_MAX} bytes"),
    ],
)
def test_an_unreadable_file_is_refused_with_its_name_and_the_place(
    text: bytes, reason: str
) -> None:
    with pytest.raises(RepositoryFailed) as raised:
        parse_text(text, "m/config.pbtxt")
    assert str(raised.value).startswith("m/config.pbtxt: ")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("json", "reason"),
    [
        ("", "load JSON"),
        ("[1]", ""),
        ("null", ""),
        ("5", ""),
        ('{"name": "\\ud800"}', "Unpaired surrogate"),
        ('{"max_batchsize": 4}', "Did you mean 'max_batch_size'?"),
        ('{"input": [{"dims": "many"}]}', "dims"),
        ("[" * 100_000, "maximum recursion depth"),
        ('{"max_batch_size": ' + "9" * 5000 + "}", ""),
        (" " * (CONFIG_BYTES_MAX + 1), f"expected at most {CONFIG_BYTES_MAX} bytes"),
    ],
)
def test_unreadable_json_is_refused_with_the_reason(json: str, reason: str) -> None:
    with pytest.raises(RepositoryFailed) as raised:
        parse_json(json, "the override")
    assert str(raised.value).startswith("the override: ")
    assert reason in str(raised.value)


def test_a_reason_stays_short_however_long_the_value_is() -> None:
    with pytest.raises(RepositoryFailed) as raised:
        parse_json('{"max_batch_size": "' + "x" * 100_000 + '"}', "the override")
    assert len(str(raised.value)) < 1_000
