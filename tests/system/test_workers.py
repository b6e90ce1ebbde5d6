"""Models in worker processes of a real server: whatever one does, all others serve."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton

from support.endpoints import (
    CRASH,
    EXIT,
    HANG,
    RAISE,
    SLOW,
    WRONG_SHAPE,
    write_mischief,
    write_torchscript,
)
from support.modules import Double
from support.requests import infer_request, values_of
from support.server import Server, is_alive, serving, wait_until

INFER = "/inference.GRPCInferenceService/ModelInfer"
DEADLINE_S = 40
CODE = "--allow-model-code"
WORKERS = "placement: workers"


class Client:
    """One channel; `call` answers with the value or the status' name and details."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._infer = channel.unary_unary(INFER)

    def start(self, value: float, model: str = "mischief") -> grpc.Future:
        request = infer_request(model, [value]).SerializeToString()
        return self._infer.future(request, timeout=DEADLINE_S)

    def call(self, value: float, model: str = "mischief") -> float | str:
        return self.outcome(self.start(value, model))

    @staticmethod
    def outcome(call: grpc.Future) -> float | str:
        try:
            return values_of(call.result())[0]
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


@contextmanager
def client_of(server: Server) -> Iterator[Client]:
    with grpc.insecure_channel(server.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Client(channel)


@pytest.fixture
def endpoints(tmp_path: Path) -> Path:
    """A model that breaks itself on demand, with a short execute timeout, and a neighbour."""
    folder = tmp_path / "endpoints"
    folder.mkdir()
    write_mischief(folder, serving="execute_timeout: 1s")
    write_torchscript(folder, "double", Double(), "placement: inline")
    return folder


def test_a_model_that_crashes_fails_only_the_request_that_did_it(
    endpoints: Path, tmp_path: Path
) -> None:
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        workers = server.workers()
        calls = {value: client.start(value) for value in (1, 2, CRASH, 3, 4)}
        outcomes = {value: client.outcome(call) for value, call in calls.items()}
        assert "SIGSEGV" in str(outcomes.pop(CRASH))
        assert outcomes == {1: 2, 2: 4, 3: 6, 4: 8}
        assert client.call(5) == 10
        assert not set(workers) & set(server.workers())
        assert "UNAVAILABLE: the worker of model 'mischief:1' ended" in str(client.call(EXIT))
        assert client.call(6) == 12
        assert client.call(7, "double") == 14


def test_a_model_that_hangs_is_killed_at_its_time_and_the_others_never_wait(
    endpoints: Path, tmp_path: Path
) -> None:
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        (hanging,) = server.workers()
        hang = client.start(HANG)
        waiting = client.start(3)
        for value in range(50):
            assert client.call(value, "double") == 2 * value
        assert "execute_timeout of 1 s" in str(client.outcome(hang))
        assert client.outcome(waiting) == 6
        assert wait_until(lambda: not is_alive(hanging))


def test_a_model_that_raises_or_answers_wrong_fails_alone_and_its_worker_stays(
    endpoints: Path, tmp_path: Path
) -> None:
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        workers = server.workers()
        calls = {value: client.start(value) for value in (1, RAISE, 2, WRONG_SHAPE, 3)}
        outcomes = {value: client.outcome(call) for value, call in calls.items()}
        assert "told to raise" in str(outcomes.pop(RAISE))
        assert "expected shape [1, 1], got [1, 7]" in str(outcomes.pop(WRONG_SHAPE))
        assert outcomes == {1: 2, 2: 4, 3: 6}
        assert server.workers() == workers


def test_workers_killed_under_load_fail_no_request(tmp_path: Path) -> None:
    folder = tmp_path / "endpoints"
    folder.mkdir()
    write_mischief(folder, serving="instances: 2")
    outcomes: Counter[str] = Counter()
    ended = threading.Event()

    def load(server: Server, number: int) -> None:
        with client_of(server) as client:
            while not ended.is_set():
                outcome = client.call(number)
                outcomes["right" if outcome == 2 * number else str(outcome)] += 1

    with serving(folder, CODE, folder=tmp_path) as server:
        assert len(server.workers()) == 2
        threads = [threading.Thread(target=load, args=(server, n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = outcomes["right"]
            assert wait_until(lambda n=before: outcomes["right"] > n + 50, DEADLINE_S)
            os.kill(server.workers()[0], signal.SIGKILL)
            assert wait_until(lambda: len(server.workers()) == 2, DEADLINE_S)
        ended.set()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert set(outcomes) == {"right"}


def test_sigterm_answers_what_a_worker_still_runs(endpoints: Path, tmp_path: Path) -> None:
    write_mischief(endpoints, "slow", serving="batching: {max_batch_size: 1}")
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        workers = server.workers()
        calls = [client.start(SLOW, "slow") for _ in range(3)]
        statistics = triton.InferenceServerClient(server.grpc)
        assert wait_until(
            lambda: statistics.get_inference_statistics("slow").model_stats[0].inference_count >= 1
        )
        assert server.terminate() == 0
        assert [client.outcome(call) for call in calls] == [2 * SLOW] * 3
        assert not any(map(is_alive, workers))


def test_a_model_that_cannot_be_loaded_is_reported_and_the_others_serve(
    endpoints: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "more"
    repository.mkdir()
    write_mischief(repository, "raising", at_load="raise ValueError('no weights')")
    write_mischief(repository, "crashing", at_load="os.kill(os.getpid(), signal.SIGSEGV)")
    with serving(endpoints, repository, CODE, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        index = {model.name: model for model in client.get_model_repository_index().models}
        assert "no weights" in index["raising"].reason
        assert "SIGSEGV" in index["crashing"].reason
        assert index["mischief"].state == "READY"
        assert len(server.workers()) == 1
        with client_of(server) as caller:
            assert caller.call(4) == 8


def test_a_model_whose_workers_cannot_start_any_more_is_not_ready_and_refused_at_once(
    endpoints: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "broken"
    write_mischief(
        endpoints,
        "later",
        at_load=f"assert not Path({str(marker)!r}).exists(), 'broken now'",
    )
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        control = triton.InferenceServerClient(server.grpc)
        assert control.is_model_ready("later")
        marker.touch()
        client.call(EXIT, "later")
        assert wait_until(lambda: not control.is_model_ready("later"), DEADLINE_S)
        started = time.monotonic()
        assert "broken now" in str(client.call(1, "later"))
        assert time.monotonic() - started < 5
        assert client.call(2) == 4
        marker.unlink()
        assert wait_until(lambda: control.is_model_ready("later"), DEADLINE_S)
        assert client.call(1, "later") == 2


def test_code_is_refused_by_name_unless_it_is_allowed(endpoints: Path, tmp_path: Path) -> None:
    with serving(endpoints, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        index = {model.name: model for model in client.get_model_repository_index().models}
        assert "--allow-model-code" in index["mischief"].reason
        assert index["double"].state == "READY"


def test_a_killed_server_leaves_no_worker_even_one_that_hangs_and_starts_again(
    endpoints: Path, tmp_path: Path
) -> None:
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        children = server.children()
        client.start(HANG)
        time.sleep(0.1)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        assert wait_until(lambda: not any(map(is_alive, children)))
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        assert client.call(1) == 2
        assert server.terminate() == 0


def test_a_killed_gateway_finds_its_workers_again(endpoints: Path, tmp_path: Path) -> None:
    with serving(endpoints, CODE, folder=tmp_path) as server:
        workers = server.workers()
        os.kill(server.gateway(), signal.SIGKILL)

        def answers() -> bool:
            with client_of(server) as client:
                return client.call(4) == 8

        assert wait_until(answers, DEADLINE_S)
        assert server.workers() == workers


def shared_memory_of(pid: int) -> int:
    """How many shared memory segments a process has open."""
    links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(link.startswith("/memfd:kedge") for link in links)


def test_nothing_outlives_the_server(endpoints: Path, tmp_path: Path) -> None:
    """Child processes, sockets, shared memory: counted before, during and after."""

    def named() -> set[str]:
        sockets = {
            line.split()[7]
            for line in Path("/proc/net/unix").read_text().splitlines()
            if len(line.split()) > 7 and str(tmp_path) in line
        }
        return sockets | set(os.listdir("/dev/shm"))

    before = named()
    with serving(endpoints, CODE, folder=tmp_path) as server, client_of(server) as client:
        children = server.children()
        assert client.call(1) == 2
        assert shared_memory_of(server.gateway()) >= 1
        for _ in range(3):
            client.call(EXIT)
            assert client.call(1) == 2
        # Each worker that ended took its memory along.
        assert shared_memory_of(server.gateway()) <= 8
        children += server.children()
        assert server.terminate() == 0
    assert not any(map(is_alive, children))
    assert named() == before


def test_loads_and_unloads_start_and_end_workers(endpoints: Path, tmp_path: Path) -> None:
    arguments = (CODE, "--model-control", "explicit", "--load-model", "*")
    with serving(endpoints, *arguments, folder=tmp_path) as server, client_of(server) as client:
        control = triton.InferenceServerClient(server.grpc)
        (worker,) = server.workers()
        slow = client.start(SLOW)
        assert wait_until(
            lambda: control.get_inference_statistics("mischief").model_stats[0].inference_count >= 0
        )
        control.unload_model("mischief")
        assert client.outcome(slow) == 2 * SLOW
        assert wait_until(lambda: not is_alive(worker), DEADLINE_S)
        assert "has no available versions" in str(client.call(1))
        control.load_model("mischief")
        assert client.call(1) == 2
        assert len(server.workers()) == 1


IMPATIENT = """
import sys
from pathlib import Path
from kedge.app.server import serve
from kedge.core.settings import ServerSettings
settings = ServerSettings(
    (Path(sys.argv[1]),),
    grpc_port=0,
    http_port=0,
    metrics_port=0,
    allow_model_code=True,
    drain_s_max=1.0,
)
sys.exit(serve(settings))
"""


@contextmanager
def impatient(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A server that drains for one second."""
    command = [sys.executable, "-c", IMPATIENT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


def ends_within(process: subprocess.Popen[str], seconds: float) -> int:
    """SIGTERM, and the exit code."""
    process.terminate()
    return process.wait(seconds)


def test_batches_that_hang_do_not_keep_the_server_beyond_its_drain(tmp_path: Path) -> None:
    for name in ("mischief", "other"):
        write_mischief(tmp_path, name, serving="execute_timeout: 60s")
    with impatient(tmp_path) as process:
        assert process.stdout is not None
        address = re.match(r"ready grpc=(\S+)", process.stdout.readline())
        assert address
        with grpc.insecure_channel(address[1]) as channel:
            client = Client(channel)
            calls = [client.start(HANG, name) for name in ("mischief", "other")]
            # Answered behind them on the same loop, so they are accepted.
            assert triton.InferenceServerClient(address[1]).is_server_ready()
            assert not any(call.done() for call in calls)
            # One second, and what workers that hang are given to end.
            assert ends_within(process, 20) == 1


def test_a_model_that_hangs_at_its_load_does_not_keep_the_server(tmp_path: Path) -> None:
    marker = tmp_path / "loading"
    write_mischief(tmp_path, at_load=f"Path({str(marker)!r}).touch(); time.sleep(1000)")
    with impatient(tmp_path) as process:
        assert wait_until(marker.exists, DEADLINE_S)
        assert ends_within(process, 25) == 1
