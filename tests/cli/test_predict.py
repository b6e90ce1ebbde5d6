from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cli.conftest import Kedge
from client.conftest import EchoServer

ROWS = '{"x": [[1.5, 2], [3, 4]]}'


def address(server: EchoServer) -> str:
    return f"localhost:{server.port}"


def test_the_answer_is_a_table_of_rows(kedge: Kedge, server: EchoServer) -> None:
    result = kedge("predict", "echo", "--address", address(server), "--input", ROWS)
    assert result.exit_code == 0, result.output
    assert [line.strip() for line in result.stdout.splitlines()] == [
        "echo version 2",
        "x",
        "[1.5, 2.0]",
        "[3.0, 4.0]",
    ]


@pytest.mark.parametrize(("output", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_answer_is_data(kedge: Kedge, server: EchoServer, output: str, parse: type) -> None:
    result = kedge(
        "predict", "echo", "--address", address(server), "--input", ROWS,
        "--request-id", "r", "--model-version", "1", "-o", output,
    )  # fmt: skip
    assert parse(result.stdout) == {
        "model": "echo",
        "version": "1",
        "id": "r",
        "outputs": {"x": [[1.5, 2.0], [3.0, 4.0]]},
    }


def test_numbers_that_json_lacks_are_written_as_protobuf_does(
    kedge: Kedge, server: EchoServer
) -> None:
    rows = '{"x": [[NaN, Infinity], [-Infinity, 0]]}'
    result = kedge("predict", "echo", "--address", address(server), "--input", rows, "-o", "json")
    outputs = json.loads(result.stdout)["outputs"]
    assert outputs == {"x": [["NaN", "Infinity"], ["-Infinity", 0.0]]}


def test_text_comes_back_as_text(kedge: Kedge, server: EchoServer) -> None:
    server.datatype, server.shape = "BYTES", (-1,)
    source = '{"x": ["ä", "b"]}'
    result = kedge("predict", "echo", "--address", address(server), "--input", source, "-o", "json")
    assert json.loads(result.stdout)["outputs"] == {"x": ["ä", "b"]}
    table = kedge("predict", "echo", "--address", address(server), "--input", source)
    assert table.stdout.split() == ["echo", "version", "2", "x", "ä", "b"]


def test_the_input_comes_from_a_file_or_from_stdin(
    kedge: Kedge, server: EchoServer, tmp_path: Path
) -> None:
    file = tmp_path / "rows.json"
    file.write_text(ROWS)
    common = ("predict", "echo", "--address", address(server), "-o", "json", "--input")
    expected = kedge(*common, ROWS).stdout
    assert kedge(*common, f"@{file}").stdout == expected
    assert kedge(*common, "-", stdin=ROWS).stdout == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", 'expected {"NAME": values, ...}'),
        ("@gone.json", "gone.json: No such file"),
    ],
)
def test_input_that_is_no_json_object_is_wrong_usage(
    kedge: Kedge, source: str, message: str
) -> None:
    result = kedge("predict", "echo", "--input", source)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_refusal_is_told_in_one_line(kedge: Kedge, server: EchoServer) -> None:
    result = kedge("predict", "other", "--address", address(server), "--input", ROWS)
    assert result.exit_code == 1
    assert result.stderr == "Error: NOT_FOUND: unknown model: 'other'\n"


def test_the_token_comes_from_the_environment(
    kedge: Kedge, server: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEDGE_TOKEN", "secret")
    kedge("predict", "echo", "--address", address(server), "--input", ROWS)
    assert server.call_metadata["authorization"] == "Bearer secret"
