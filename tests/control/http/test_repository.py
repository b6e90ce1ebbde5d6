"""Index, load and unload over HTTP."""

from __future__ import annotations

import pytest

from support.fake_gateway import FakeGateway, running_gateway
from support.http_process import HttpProcess, running_http

LOAD = "/v2/repository/models/echo/load"
UNLOAD = "/v2/repository/models/echo/unload"
INDEX = "/v2/repository/index"


def test_the_index_is_a_list_without_what_is_empty(http: HttpProcess, gateway: FakeGateway) -> None:
    ready = {"name": "echo", "version": "2", "state": "READY"}
    assert http.request("POST", INDEX).json == [ready, {"name": "n"}]
    assert http.request("POST", INDEX, {"ready": True}).json == [ready]


def test_the_name_of_a_repository_is_for_the_gateway_to_refuse(
    http: HttpProcess, gateway: FakeGateway
) -> None:
    http.request("POST", "/v2/repository/other/index")
    assert gateway.request.repository_name == "other"
    http.request("POST", "/v2/repository/other/models/echo/load")
    assert (gateway.request.repository_name, gateway.request.model_name) == ("other", "echo")


def test_a_load_takes_configuration_and_files_and_has_more_time(
    http: HttpProcess, gateway: FakeGateway
) -> None:
    parameters = {"config": "{}", "file:1/model.pt": "AP8=", "flag": True, "number": 7}
    answer = http.request("POST", LOAD, {"parameters": parameters})
    assert (answer.status, answer.body) == (200, b"")
    received = gateway.request.parameters
    assert received["config"].string_param == "{}"
    assert received["file:1/model.pt"].bytes_param == b"\0\xff"
    assert received["flag"].bool_param is True
    assert received["number"].int64_param == 7
    assert gateway.left_s is not None
    assert gateway.left_s > 500


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"parameters": {"file:1/model.pt": "%%"}}, "'file:1/model.pt': expected base64"),
        ({"parameters": {"file:1/model.pt": "ü"}}, "'file:1/model.pt': expected base64"),
        ({"parameters": {"config": {}}}, "'config': expected a string, got an object"),
        ({"parameters": {"n": 2**63}}, "'n': expected a string, got a number"),
        ({"parameters": 5}, "'parameters': expected an object, got a number"),
        (b"x", "no valid JSON"),
    ],
)
def test_wrong_parameters_are_refused(http: HttpProcess, body: object, expected: str) -> None:
    for path in (LOAD, UNLOAD):
        answer = http.request("POST", path, body)  # type: ignore[arg-type]
        assert answer.status == 400
        assert expected in answer.json["error"]


def test_an_unload_says_whether_dependents_go_too(http: HttpProcess, gateway: FakeGateway) -> None:
    body = {"parameters": {"unload_dependents": True}}
    answer = http.request("POST", UNLOAD, body)
    assert (answer.status, answer.body) == (200, b"")
    assert gateway.request.parameters["unload_dependents"].bool_param is True


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Origin"])
def test_without_tokens_proxies_and_web_pages_control_nothing(
    http: HttpProcess, gateway: FakeGateway, path: str, header: str
) -> None:
    gateway.requests.clear()
    answer = http.request("POST", path, headers={header: "http://127.0.0.1"})
    assert answer.status == 403
    assert answer.json["error"].startswith("control calls are answered on loopback only")
    assert gateway.requests == []
    assert http.request("POST", INDEX, headers={header: "http://127.0.0.1"}).status == 200


def test_with_tokens_the_gateway_alone_decides() -> None:
    with running_gateway() as (gateway, address), running_http(address) as http:
        headers = {"X-Forwarded-For": "10.0.0.1", "Authorization": "Bearer abc"}
        assert http.request("POST", LOAD, headers=headers).status == 200
        assert gateway.call_metadata["authorization"] == "Bearer abc"
