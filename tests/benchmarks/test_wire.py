import numpy as np
import pytest
from _wire import MODELS, STRINGS, answered_rows, check_answer, grpc_frame, infer_request, payload
from tritonclient.grpc import InferInput, _utils, service_pb2


@pytest.mark.parametrize("model", MODELS)
def test_request_is_what_the_stock_client_would_send(model):
    interface = MODELS[model]
    tensor = InferInput("INPUT0", [1, *interface.input_dims], interface.datatype)
    tensor.set_data_from_numpy(payload(model))
    request = _utils._get_inference_request(
        model, [tensor], "", "", None, 0, False, False, 0, None, None
    )
    assert infer_request(model) == request


def test_payload_is_the_same_in_every_run_and_has_no_two_equal_numbers():
    assert np.array_equal(payload(), payload())
    assert len(np.unique(payload())) == 32


def test_large_payload_is_exactly_4_mib():
    assert payload("large").nbytes == 4 * 1024 * 1024


def test_image_payload_is_602_kb():
    assert payload("image").shape == (1, 3, 224, 224)
    assert payload("image").nbytes == 602_112


def test_strings_come_back_from_an_answer_as_they_were_sent():
    request = infer_request("strings")
    response = service_pb2.ModelInferResponse()
    response.outputs.add(name="OUTPUT0", datatype="BYTES", shape=[1, 4])
    response.raw_output_contents.append(request.raw_input_contents[0])
    assert [text.decode() for text in answered_rows(response)[0]] == list(STRINGS)


@pytest.mark.parametrize(
    ("got", "right"),
    [
        (np.float32([[1.0, 2.0]]), True),
        (np.float32([[1.0, 2.00001]]), True),
        (np.float32([[1.0, 2.1]]), False),
        (np.float32([[1.0], [2.0]]), False),
        (np.array([[b"1", b"2"]], dtype=object), False),
    ],
)
def test_answer_is_right_up_to_rounding_and_wrong_beyond(monkeypatch, got, right):
    monkeypatch.setattr("_wire.infer", lambda address, model: got)
    if right:
        check_answer("nowhere", np.float32([[1.0, 2.0]]))
    else:
        with pytest.raises(RuntimeError, match="nowhere answered"):
            check_answer("nowhere", np.float32([[1.0, 2.0]]))


def test_numbers_instead_of_strings_are_a_wrong_answer(monkeypatch):
    monkeypatch.setattr("_wire.infer", lambda address, model: np.float32([[1.0, 2.0]]))
    with pytest.raises(RuntimeError, match="nowhere answered"):
        check_answer("nowhere", np.array([[b"1", b"2"]], dtype=object), "strings")


def test_frame_is_flag_big_endian_length_and_message():
    assert grpc_frame(b"x" * 258) == b"\x00\x00\x00\x01\x02" + b"x" * 258
