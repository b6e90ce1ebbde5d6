from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config.conftest import ENDPOINT
from kedge.config.check import check
from kedge.config.document import parse_document
from kedge.config.endpoint import EndpointFile
from kedge.config.problems import NOT_YET, ConfigError


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check(parse_document(text.encode(), "e.yaml"))
    return [str(problem) for problem in error.value.problems]


def changed(old: str, new: str) -> str:
    assert ENDPOINT.count(old) == 1, "the test changes what is there"
    return ENDPOINT.replace(old, new)


def line_of(part: str) -> int:
    return ENDPOINT[: ENDPOINT.index(part)].count("\n") + 1


def test_the_endpoint_that_the_tests_vary_is_right() -> None:
    assert check(parse_document(ENDPOINT.encode(), "e.yaml")).name == "fraud"


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("kedge/v1", "kedge/v2", "apiVersion", "expected 'kedge/v1', got 'kedge/v2'"),
        ("kind: Endpoint", "kind: Model", "kind", "expected 'Endpoint', got 'Model'"),
        ("name: fraud", "nmae: fraud", "nmae", "unknown key; did you mean 'name'?"),
        ("name: fraud", "zzz: fraud", "zzz", "unknown key"),
        ("name: fraud", "name: no", "name", "expected text, got False: put it in quotes"),
        ("name: fraud", "name: 3", "name", "expected text, got 3: put it in quotes"),
        ("name: fraud", "name: a/b", "name", "expected 1 to 128 letters"),
        ("name: fraud", "name:", "name", "expected text, is empty"),
        ("FP32, shape: [-1, 3]", "FP31, shape: [-1, 3]", "inputs[0].datatype", "mean 'FP32'?"),
        ("datatype: BYTES", "datatype: string", "inputs[1].datatype", "did you mean 'BYTES'?"),
        ("datatype: BYTES", "data_type: BYTES", "inputs[1].data_type", "mean 'datatype'?"),
        ("shape: [-1, 3]", "shape: [-1, -2]", "inputs[0].shape[1]", "at least -1, got -2"),
        ("shape: [-1, 3]", "shape: [-1, 0]", "inputs[0].shape", "or at least 1, got 0"),
        ("shape: [-1, 3]", "shape: [-1, 3.0]", "inputs[0].shape[1]", "a whole number, got 3.0"),
        ("shape: [-1, 3]", "shape: -1", "inputs[0].shape", "expected a list, got -1"),
        ("shape: [-1, 3]", "shape: [4, 3]", "inputs[0].shape", "expected -1 (the batch)"),
        (
            "shape: [-1, 3]",
            "shape: [-1, 65536, 65536]",
            "inputs[0].shape",
            "more than 2147483647 elements in one row",
        ),
        ("name: country", "name: amount", "inputs[1].name", "already the name of inputs[0]"),
        ("name: country", "role: id, name: country", "inputs[1].role", NOT_YET),
        ('"1": {', '"0": {', "versions.0", "expected a version number from 1"),
        ('"1": {', '"01": {', "versions.01", "expected a version number from 1"),
        ('"1": {', '"one": {', "versions.one", "expected a version number from 1"),
        ("models/1.pt", "models:/fraud@champion", "versions.1.model", f"registry is {NOT_YET}"),
        ("models/1.pt", "ftp://host/1.pt", "versions.1.model", "a URL of http, https, s3"),
        ("models/1.pt", "s3://bucket", "versions.1.model", "s3://bucket names no file"),
        ("models/1.pt", "https://u:pw@h/1.onnx", "versions.1.model", "expected a model file"),
        ("{model: models/1.pt}", "{model: a.pt, sha256: abc}", "versions.1.sha256", "64 digits"),
        ("models/1.pt", "models/1.onnx", "versions.1.model", "expected a model file"),
        ("{model: models/1.pt}", "models/1.pt", "versions.1", "expected a mapping of keys"),
        ("serving:", "rollout: {}\nserving:", "rollout", NOT_YET),
        ("serving:", "serving:\n  routing: {}", "serving.routing", NOT_YET),
        ("serving:", "serving:\n  placemnt: inline", "serving.placemnt", "mean 'placement'?"),
        ("max_batch_size: 8", "buckets: [65]", "buckets[0]", "at most max_batch_size 64"),
        ("max_batch_size: 8", "buckets: [0]", "buckets[0]", "at least 1"),
        ("serving:", "serving:\n  placement: gpu", "serving.placement", "expected 'auto'"),
        ("serving:", "serving:\n  device: gpu", "serving.device", "expected cpu, cuda:N, or a"),
        ("serving:", "serving:\n  device: [cpu, 1]", "serving.device", "or a list of these, got 1"),
        ("serving:", "serving:\n  device: []", "serving.device", "at least one device"),
        ("serving:", "serving:\n  instances: 0", "serving.instances", "at least 1, got 0"),
        ("serving:", "serving:\n  compile: fast", "serving.compile", "expected 'auto'"),
        ("serving:", "serving:\n  execute_timeout: 0ms", "execute_timeout", "more than 0"),
        ("serving:", "serving:\n  execute_timeout: 5", "execute_timeout", "a duration such as"),
        ("serving:", "serving:\n  device_memory: 5", "device_memory", "a size in bytes such as"),
        (
            "{model: models/1.pt}",
            "{model: m, format: onnx}",
            "versions.1.format",
            "expected 'auto'",
        ),
        ("max_batch_size: 8", "max_batch_size: -1", "serving.batching.max_batch_size", "least 0"),
        ("max_batch_size: 8", "max_batch_size: 7", "preferred_batch_size[0]", "at most max_batch"),
        ("delay: 2ms", "delay: 2", "serving.batching.max_queue_delay", "a duration such as 2ms"),
        ("timeout: 50ms", "tiemout: 50ms", "serving.queue.tiemout", "did you mean 'timeout'?"),
        ("timeout: 50ms", "priority_levels: 2", "serving.queue.priority_levels", NOT_YET),
        ("max_queued_requests: 16", "max_queue_size: 16", "max_queue_size", "queued_requests'?"),
        ("1.5MiB", "1.5", "serving.queue.max_queued_bytes", "a size in bytes such as 64MiB"),
        ("override: true", "override: 1", "allow_timeout_override", "true or false, got 1"),
    ],
)
def test_a_mistake_is_reported_with_line_key_and_remedy(
    old: str, new: str, key: str, message: str
) -> None:
    found = problems(changed(old, new))
    (problem,) = (problem for problem in found if problem.split(": ")[1].endswith(key))
    place, _, rest = problem.partition(": ")
    # Where the changed text is, but for a key that stands in a new line of its own.
    below = new.count("\n") if "serving:\n" in new else 0
    assert place == f"e.yaml:{line_of(old) + below}"
    assert rest.partition(": ")[0].endswith(key)
    assert message in rest


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    text = "kind: Endpoint\nnaem: x\ninputs: []\noutputs:\n- {name: 1, datatype: X, shape: []}\n"
    found = problems(text)
    assert [problem.split(": ")[1] for problem in found] == [
        "apiVersion",
        "name",
        "versions",
        "naem",
        "inputs",
        "outputs[0].name",
        "outputs[0].datatype",
    ]


@pytest.mark.parametrize("text", ["", "- 1", "just text", "3"])
def test_a_document_that_is_no_mapping_says_so(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("e.yaml:1: expected a mapping of keys")


def test_a_model_without_batch_dimension_starts_no_shape_with_minus_one() -> None:
    single = ENDPOINT.replace("[-1, 3]", "[3]").replace("[-1]}", "[1]}")
    without = single[: single.index("serving:")]
    assert check(parse_document(without.encode(), "e.yaml"))
    (problem, *_) = problems(single)
    assert "no shape starts with -1 (the batch): expected 0" in problem


def test_max_batch_size_0_lets_unbatched_shapes_start_with_any_size() -> None:
    text = ENDPOINT.replace("max_batch_size: 8", "max_batch_size: 0").replace("[8, 4]", "[]")
    assert check(parse_document(text.replace("[-1, 3]", "[4, 3]").encode(), "e.yaml"))


TOKENS = """\
apiVersion: kedge/v1
kind: Endpoint
name: tokens
inputs:
  - {name: ids, datatype: INT64, shape: [-1, -1]}
  - {name: mask, datatype: INT64, shape: [-1, -1]}
outputs:
  - {name: y, datatype: FP32, shape: [-1, -1, 4]}
versions: {"1": {model: m.pt}}
serving: {batching: {length_buckets: [32, 64]}}
"""


def test_length_buckets_are_right_for_tokens() -> None:
    endpoint = check(parse_document(TOKENS.encode(), "e.yaml"))
    assert endpoint.serving.batching.length_buckets == [32, 64]


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("[32, 64]", "[64, 32]", "length_buckets[1]", "ascending order, got 32 after 64"),
        ("[32, 64]", "[64, 64]", "length_buckets[1]", "ascending order, got 64 after 64"),
        ("[32, 64]", "[0]", "length_buckets[0]", "expected at least 1, got 0"),
        ("[32, 64]", "[2147483647]", "outputs[0].shape", "elements in one row of the largest"),
        ("{length", "{max_batch_size: 0, length", "length_buckets", "needs a batch dimension"),
        ("INT64, shape: [-1, -1]", "BYTES, shape: [-1, -1]", "inputs[0].datatype", "be padded"),
        ("FP32, shape: [-1, -1, 4]", "BYTES, shape: [-1, 4]", "outputs[0].datatype", "be padded"),
        ("ids, datatype: INT64, shape: [-1, -1]", "ids, datatype: INT64, shape: [-1, -1, -1]",
         "inputs[0].shape", "expected at most one dimension of any size"),
        ("shape: [-1, -1]", "shape: [-1, 8]", "length_buckets", "no input has a dimension of any"),
    ],
)  # fmt: skip
def test_length_buckets_whose_meaning_is_not_certain_are_refused(
    old: str, new: str, key: str, message: str
) -> None:
    found = problems(TOKENS.replace(old, new))
    assert any(key in problem and message in problem for problem in found), found


def test_two_free_dimensions_are_right_where_no_output_depends_on_them() -> None:
    text = TOKENS.replace("name: ids, datatype: INT64, shape: [-1, -1]",
                          "name: ids, datatype: INT64, shape: [-1, -1, -1]")  # fmt: skip
    assert check(parse_document(text.replace("[-1, -1, 4]", "[-1, 4]").encode(), "e.yaml"))


KEYS = st.sampled_from(
    ["apiVersion", "kind", "name", "inputs", "outputs", "versions", "serving", "1", "model",
     "batching", "queue", "timeout", "max_batch_size", "shape", "datatype", "zzz"]
)  # fmt: skip
TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(yaml.safe_load(ENDPOINT))), TREES)
def test_any_value_anywhere_is_accepted_or_refused_as_a_configuration(
    key: str, value: object
) -> None:
    text = yaml.safe_dump({**yaml.safe_load(ENDPOINT), key: value}).encode()
    with suppress(ConfigError):
        assert isinstance(check(parse_document(text, "e.yaml")), EndpointFile)


def test_placement_inline_is_one_instance_on_the_cpu() -> None:
    inline = "serving:\n  placement: inline\n"
    assert check(parse_document(changed("serving:\n", inline).encode(), "e.yaml"))
    for more, message in (
        ("device: cuda:1", "serving.device: placement inline runs on the CPU only"),
        ("instances: 2", "serving.instances: placement inline runs one instance, got 2"),
    ):
        (problem,) = problems(changed("serving:\n", f"{inline}  {more}\n"))
        assert message in problem


def test_any_name_will_do_for_a_format_that_is_given() -> None:
    text = changed("{model: models/1.pt}", "{model: models/1.bin, format: torchscript}")
    assert check(parse_document(text.encode(), "e.yaml"))
    for name in ("folder", "folder/", "v1.2/", "a.pt2", "model.py"):
        assert check(parse_document(changed("models/1.pt", name).encode(), "e.yaml"))
    assert "expected a model file" in problems(changed("models/1.pt", "v1.2"))[0]
