import numpy as np
from _wire import grpc_frame, infer_request, payload
from tritonclient.grpc import InferInput, _utils


def test_request_is_what_the_stock_client_would_send():
    tensor = InferInput("INPUT0", [1, 32], "FP32")
    tensor.set_data_from_numpy(payload())
    request = _utils._get_inference_request(
        "bench", [tensor], "", "", None, 0, False, False, 0, None, None
    )
    assert infer_request() == request


def test_payload_is_the_same_in_every_run_and_has_no_two_equal_numbers():
    assert np.array_equal(payload(), payload())
    assert len(np.unique(payload())) == 32


def test_large_payload_is_exactly_4_mib():
    assert payload("large").nbytes == 4 * 1024 * 1024


def test_frame_is_flag_big_endian_length_and_message():
    assert grpc_frame(b"x" * 258) == b"\x00\x00\x00\x01\x02" + b"x" * 258
