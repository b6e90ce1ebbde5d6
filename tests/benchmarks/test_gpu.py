"""gpu.py as far as it can be tried without a GPU: its clients, processes, arithmetic and tables."""

import os
import subprocess
import sys
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import _gpu_load
import grpc
import numpy as np
import pytest
import torch
from _gpu_load import LoadFailed, load, pace, summary
from _gpu_models import SHAPES, make_model
from _gpu_parts import Part, measure_executor, timed
from _gpu_report import goals, latency_table, markdown, medians, throughput_table

from kedge.config.load import load_endpoint
from kedge.core.settings import Placement
from kedge.executors.cuda.executor import CudaExecutor
from kedge.executors.torchscript import load_torchscript
from kedge.proto import ModelInferRequest
from support import gpu_parts
from support.fake_gpu import FakeGpu
from support.gpu_models import described

ROOT = Path(__file__).parents[2]
MS = 1_000_000


class Identity(torch.nn.Module):
    def forward(self, x):
        return x


@contextmanager
def grpc_server(answer):
    handler = grpc.unary_unary_rpc_method_handler(answer)
    service = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": handler}
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_clients_send_the_prepared_bytes_from_processes_of_their_own(monkeypatch):
    monkeypatch.setattr(_gpu_load, "WARMUP_S", 0.1)
    seen = set()

    def answer(request, context):
        seen.add((request, context.peer()))
        return b"answer"

    with grpc_server(answer) as address:
        found = load(address, b"request", processes=2, in_flight=2, seconds=0.3)
    assert {request for request, _ in seen} == {b"request"}
    assert len(seen) == 2
    assert found.requests > 10
    assert found.requests_per_s > 10
    assert 0 < found.p50_us <= found.p99_us


def test_a_refused_request_fails_the_load(monkeypatch):
    monkeypatch.setattr(_gpu_load, "WARMUP_S", 0.1)

    def answer(request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    with grpc_server(answer) as address, pytest.raises(LoadFailed, match="maximum queue size"):
        load(address, b"request", processes=1, in_flight=1, seconds=0.1)


def test_the_pace_of_batches_has_no_edges():
    """Ten batches a second, seen through a window that begins and ends anywhere."""
    times = np.arange(3, 38, dtype=np.int64) * 100 * MS + 37 * MS
    assert pace(times) == pytest.approx(10.0)
    with pytest.raises(LoadFailed, match="only 2 answers"):
        pace(times[:2])


def test_the_summary_merges_clients_and_leaves_out_the_warm_up():
    first = np.array([[0, 500 * MS, 1500 * MS], [9 * MS, 1 * MS, 3 * MS]])
    second = np.array([[1000 * MS, 2000 * MS], [2 * MS, 4 * MS]])
    found = summary([first, second], skip_ns=1000 * MS)
    assert found.requests == 3
    assert found.requests_per_s == pytest.approx(2.0)
    assert found.p50_us == pytest.approx(3000.0)


def test_a_part_measures_in_a_process_of_its_own_as_often_as_told():
    part = Part(gpu_parts.doubles, 2.0)
    try:
        first, second = part.measure(1.5), part.measure(2.0)
    finally:
        part.stop()
    assert (first["twice"], second["twice"]) == (3.0, 4.0)
    assert first["pid"] == second["pid"] != os.getpid()


def test_a_part_that_cannot_start_dies_or_fails_says_so():
    with pytest.raises(LoadFailed, match="RuntimeError: no memory left"):
        Part(gpu_parts.cannot_start)
    with pytest.raises(LoadFailed, match="the measuring process died"):
        Part(gpu_parts.dies)
    part = Part(gpu_parts.fails_later)
    with pytest.raises(LoadFailed, match="RuntimeError: device lost"):
        part.measure(1.0)


def test_launches_are_timed_alone_and_back_to_back():
    calls = []
    found = timed("graph", lambda: calls.append("launch"), lambda: calls.append("wait"), 4, 0.02)
    assert calls[:4] == ["launch", "wait", "launch", "wait"]
    assert found["graph.rows_per_s"] > 4
    assert 0 < found["graph.p50_us"] < 1e5
    assert calls.count("launch") > calls.count("wait"), "it waited after every launch"


def test_an_executor_is_measured_alone_and_full():
    executor = CudaExecutor(
        described([("x", "FP32", (3,))], [("y", "FP32", (3,))], rows_max=4), Identity(), FakeGpu()
    )
    found = measure_executor(executor, np.ones((4, 3), np.float32), 0.05)
    assert found["executor.rows_per_s"] > 0
    assert found["executor.p50_us"] > 0
    assert executor.batches_free == 2
    executor.close()


def test_a_batch_that_is_refused_fails_the_measurement():
    executor = CudaExecutor(
        described([("x", "FP32", (3,))], [("y", "FP32", (3,))], rows_max=4), Identity(), FakeGpu()
    )
    with pytest.raises(LoadFailed, match="expected 24 bytes, got 48"):
        measure_executor(executor, np.ones((2, 3), np.float64), 0.05)
    executor.close()


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_saved_model_answers_any_batch_as_declared(name, tmp_path):
    shape = SHAPES[name]
    forward = load_torchscript(make_model(name, tmp_path))
    with torch.inference_mode():
        answer = forward(torch.from_numpy(shape.batch(3)))
    assert answer.shape == (3, *shape.out_dims)
    assert answer.dtype == torch.float32
    assert torch.isfinite(answer).all()
    assert answer.std() > 0


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_request_holds_the_batch_and_the_endpoint_takes_it(name, tmp_path):
    shape = SHAPES[name]
    request = ModelInferRequest.FromString(shape.request(2))
    assert list(request.inputs[0].shape) == [2, *shape.in_dims]
    assert request.raw_input_contents[0] == shape.batch(2).tobytes()
    assert len(request.raw_input_contents[0]) == 2 * shape.row_bytes
    path = tmp_path / "endpoint.yaml"
    path.write_text(shape.endpoint(tmp_path / "m.pt", 16, "cuda:0"))
    (served,) = load_endpoint(path, check_files=False, environ={}).manifests
    alone = shape.manifest(tmp_path / "m.pt", 16, "cuda:0")
    assert served.execution.placement is alone.execution.placement is Placement.WORKERS
    assert served.execution.devices == alone.execution.devices == ("cuda:0",)
    assert (served.ref, served.schema, served.batch) == (alone.ref, alone.schema, alone.batch)


def figures(graph=1000.0, served=960.0, graph_us=500.0, served_us=640.0):
    return {
        "graph.rows_per_s": graph,
        "graph.p50_us": graph_us,
        "graph_copies.rows_per_s": graph * 0.9,
        "graph_copies.p50_us": graph_us + 20,
        "executor.rows_per_s": graph * 0.99,
        "executor.p50_us": graph_us + 80,
        "served.rows_per_s": served,
        "served.p50_us": served_us,
    }


def test_medians_and_goals_hold_at_their_bounds_and_not_beyond():
    middle = medians([figures(served=949.0), figures(served=950.0), figures(served=999.0)])
    assert middle["served.ratio"] == pytest.approx(0.95)
    assert middle["served.overhead_us"] == pytest.approx(140.0)
    row = {"model": "mlp", "batch": 4}
    reached = [goal["reached"] for goal in goals([{**row, "median": middle}])]
    assert reached == [True, True]
    slow = medians([figures(served=949.0, served_us=651.0)])
    assert [goal["reached"] for goal in goals([{**row, "median": slow}])] == [False, False]
    assert [goal["reached"] for goal in goals([{**row, "failed": "no memory"}])] == [False, False]


def test_the_tables_show_every_row_and_why_one_failed():
    rows = [
        {"model": "resnet", "batch": 16, "median": medians([figures()])},
        {"model": "mlp", "batch": 256, "failed": "out of\nmemory | really"},
    ]
    assert "| resnet | 16 | 1,000 | 900 | 990 | 0.990 | 960 | 0.960 reached |" in throughput_table(
        rows
    )
    assert "| mlp | 256 | failed: out of memory / really |" in throughput_table(rows)
    assert "| resnet | 16 | 500 | 520 | +80 | +140 | reached |" in latency_table(rows)
    gpu = {"name": "NVIDIA H100", "driver": "580.1", "torch": "2.11.0", "cuda": "13.0"}
    text = markdown({"gpu": gpu, "settings": {"rounds": 3, "seconds": 5.0}, "rows": rows})
    assert "on NVIDIA H100, driver 580.1, torch 2.11.0 for CUDA 13.0" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_it_says_so_in_one_line_and_exits_3():
    results = ROOT / "benchmarks" / "results" / "gpu.jsonl"
    before = results.read_bytes() if results.exists() else None
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 3
    assert done.stdout.startswith("not measured: device 'cuda:0' cannot be used: ")
    assert done.stdout.count("\n") == 1
    assert (results.read_bytes() if results.exists() else None) == before
