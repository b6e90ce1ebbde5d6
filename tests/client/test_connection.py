from __future__ import annotations

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from client.conftest import EchoServer
from kedge.client import Client, KedgeError, connect
from kedge.core.errors import Status

ROWS = np.array([[1.5, -2.0], [0.25, 3.0]], dtype=np.float32)


def test_a_prediction_has_the_outputs_the_version_and_the_request_id(client: Client) -> None:
    answer = client.predict("echo", {"x": ROWS}, request_id="r-1")
    np.testing.assert_array_equal(answer["x"], ROWS)
    assert (answer.model, answer.version, answer.request_id) == ("echo", "2", "r-1")
    assert list(answer) == ["x"]
    assert repr(answer) == "<Prediction echo:2 [x[2, 2]]>"


def test_a_request_is_what_tritonclient_would_parse(client: Client, server: EchoServer) -> None:
    client.predict("echo", {"x": ROWS}, version="1", outputs=["x"], request_id="r-1")
    (request,) = server.requests
    expected = pb.ModelInferRequest(
        model_name="echo",
        model_version="1",
        id="r-1",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [2, 2]}],
        outputs=[{"name": "x"}],
        raw_input_contents=[ROWS.tobytes()],
    )
    assert request == expected


def test_numbers_of_an_answer_are_not_copied(client: Client) -> None:
    array = client.predict("echo", {"x": ROWS})["x"]
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_metadata_is_fetched_once_per_model_and_version(client: Client, server: EchoServer) -> None:
    for version in ("", "", "1", "1"):
        client.predict("echo", {"x": ROWS}, version=version)
    assert server.metadata_calls == 2
    metadata = client.metadata("echo")
    assert (metadata.name, metadata.versions, metadata.platform) == ("echo", ("1", "2"), "test")
    assert str(metadata.inputs[0]) == "x: FP32[-1, 2]"


def test_a_model_that_changed_its_inputs_is_asked_again(client: Client, server: EchoServer) -> None:
    client.predict("echo", {"x": ROWS})
    server.shape = (-1, 3)
    wider = client.predict("echo", {"x": [[1, 2, 3]]})
    assert wider["x"].tolist() == [[1, 2, 3]]
    server.datatype = "FP64"
    assert client.predict("echo", {"x": [[1, 2, 3]]})["x"].dtype == np.float64


def test_a_request_that_fits_neither_old_nor_new_metadata_is_refused_with_the_shape(
    client: Client, server: EchoServer
) -> None:
    client.predict("echo", {"x": ROWS})
    with pytest.raises(KedgeError, match=r"expected shape \[-1, 2\], got \[1, 3\]") as refused:
        client.predict("echo", {"x": [[1, 2, 3]]})
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert len(server.requests) == 1


def test_an_unknown_input_names_those_that_the_model_has(client: Client) -> None:
    with pytest.raises(KedgeError, match=r"no input 'y', it has x: FP32\[-1, 2\]"):
        client.predict("echo", {"y": ROWS})


def test_an_unknown_model_is_not_found(client: Client) -> None:
    with pytest.raises(KedgeError, match="unknown model: 'other'") as error:
        client.predict("other", {"x": ROWS})
    assert error.value.status is Status.NOT_FOUND


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNAVAILABLE, Status.UNAVAILABLE),
        (grpc.StatusCode.UNAUTHENTICATED, Status.UNAUTHENTICATED),
        (grpc.StatusCode.DATA_LOSS, Status.UNKNOWN),
    ],
)
def test_a_failed_call_keeps_the_servers_status_and_text(
    client: Client, server: EchoServer, code: grpc.StatusCode, status: Status
) -> None:
    server.refusal = (code, "Exceeds maximum queue size")
    with pytest.raises(KedgeError) as error:
        client.predict("echo", {"x": ROWS})
    assert error.value.status is status
    assert error.value.message == "Exceeds maximum queue size"


def test_the_token_is_sent_as_bearer(server: EchoServer) -> None:
    with connect(f"127.0.0.1:{server.port}", token="secret") as client:
        client.predict("echo", {"x": ROWS})
    assert server.call_metadata["authorization"] == "Bearer secret"


def test_messages_above_4_mib_pass_both_ways(client: Client) -> None:
    rows = np.zeros((1_000_000, 2), dtype=np.float32)
    assert client.predict("echo", {"x": rows})["x"].nbytes == rows.nbytes


def test_an_answer_whose_size_is_not_its_shape_is_an_error(
    client: Client, server: EchoServer
) -> None:
    server.drops_bytes = 4
    with pytest.raises(KedgeError, match=r"12 bytes for FP32\[2, 2\]") as error:
        client.predict("echo", {"x": ROWS})
    assert error.value.status is Status.INTERNAL


def test_readiness_is_the_servers_and_each_models(client: Client, server: EchoServer) -> None:
    assert client.ready()
    assert client.ready("echo")
    assert not client.ready("other")


def test_a_server_that_is_not_there_is_not_ready() -> None:
    with connect("127.0.0.1:1", timeout_s=5) as client:
        assert not client.ready()
        with pytest.raises(KedgeError) as error:
            client.metadata("echo")
    assert error.value.status is Status.UNAVAILABLE


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    with pytest.raises(KedgeError, match="closed"):
        client.predict("echo", {"x": ROWS})


@pytest.mark.parametrize("address", ["", "http://localhost:8000"])
def test_a_url_is_no_address(address: str) -> None:
    with pytest.raises(KedgeError, match="expected an address HOST:PORT"):
        connect(address)
