from __future__ import annotations

import pytest

from config.conftest import ENDPOINT, Write
from kedge.config.load import load_endpoint
from kedge.config.problems import ConfigError


@pytest.mark.parametrize("text", [ENDPOINT, ENDPOINT[: ENDPOINT.index("serving:")]])
def test_a_variable_overrides_the_file_and_the_default(write: Write, text: str) -> None:
    environ = {
        "KEDGE__SERVING__QUEUE__TIMEOUT": "7ms",
        "KEDGE__SERVING__BATCHING__MAX_BATCH_SIZE": "32",
        "KEDGE__SERVING__BATCHING__PREFERRED_BATCH_SIZE": "[2]",
        "KEDGE__SERVING__QUEUE__ALLOW_TIMEOUT_OVERRIDE": "false",
        "KEDGE_OTHER": "is somebody else's",
    }
    manifest = load_endpoint(write(text), environ=environ).manifests[0]
    assert manifest.queue.timeout_us == 7_000
    assert manifest.queue.timeout_override is False
    assert manifest.batch.rows_max == 32
    assert manifest.batch.preferred_rows == (2,)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SERVING__QUEUE__TIEMOUT", "7ms", "unknown key serving.queue.tiemout; did you mean"),
        ("SERVING__QEUE__TIMEOUT", "7ms", "unknown key serving.qeue; did you mean 'queue'?"),
        ("SERVING__QUEUE__TIMEOUT__MS", "7", "unknown key serving.queue.timeout.ms"),
        ("SERVING__QUEUE", "{timeout: 7ms}", "names a section, not a key"),
        ("SERVING", "{}", "names a section, not a key"),
        ("NAME", "other", "only keys under KEDGE__SERVING__ can be overridden"),
        ("", "x", "only keys under KEDGE__SERVING__ can be overridden"),
        ("SERVING__QUEUE__TIMEOUT", "7", "serving.queue.timeout: expected a duration"),
        ("SERVING__QUEUE__TIMEOUT", "[", "no YAML"),
        ("SERVING__QUEUE__TIMEOUT", "", "expected a duration"),
        ("SERVING__BATCHING__PREFERRED_BATCH_SIZE", "[0]", "[0]: expected at least 1, got 0"),
    ],
)
def test_a_wrong_variable_is_reported_by_its_name(
    write: Write, name: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_endpoint(write(ENDPOINT), environ={f"KEDGE__{name}": value})
    (problem,) = error.value.problems
    assert problem.where == f"KEDGE__{name}"
    assert message in str(problem)


def test_all_wrong_variables_are_reported(write: Write) -> None:
    environ = {"KEDGE__A": "1", "KEDGE__SERVING__B": "2"}
    with pytest.raises(ConfigError) as error:
        load_endpoint(write(ENDPOINT), environ=environ)
    assert [problem.where for problem in error.value.problems] == sorted(environ)


def test_a_file_whose_sections_are_wrong_is_reported_as_such(write: Write) -> None:
    text = ENDPOINT[: ENDPOINT.index("serving:")] + "serving: 3\n"
    with pytest.raises(ConfigError, match=r"yaml:12: serving: expected a mapping of keys, got 3"):
        load_endpoint(write(text), environ={"KEDGE__SERVING__QUEUE__TIMEOUT": "7ms"})
