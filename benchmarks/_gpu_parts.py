"""The two measurements of gpu.py inside one process on the GPU, each in a process of its own:
the bare CUDA graph, and the executor around it without front and network.

A process loads once and measures when it is told, so that rounds can be interleaved.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from _gpu_load import LoadFailed, pace
from _gpu_models import SHAPES
from numpy.typing import NDArray

READY_TIMEOUT_S = 300.0
WARMUP_RUNS = 3
# Replays between two waits: the wait's own 20 us must not count.
CHUNK_S = 0.05
LATENCY_RUNS = 300

Measures = dict[str, float]
Measure = Callable[[float], Measures]


class Part:
    """A measurement in a process of its own, from here to `stop`."""

    def __init__(self, prepare: Callable[..., Measure], *arguments: object) -> None:
        """prepare(*arguments): runs in the new process and returns what measures there."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_measure_when_told, args=(theirs, prepare, *arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        self._receive(READY_TIMEOUT_S)

    def measure(self, seconds: float) -> Measures:
        """One round of about `seconds`. Raises LoadFailed with the process's own error."""
        self._pipe.send(seconds)
        return self._receive(READY_TIMEOUT_S + 10 * seconds)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _receive(self, timeout_s: float) -> Measures:
        if not self._pipe.poll(timeout_s):
            self.stop()
            raise LoadFailed(f"no answer within {timeout_s:.0f} s")
        try:
            answer: Measures | str = self._pipe.recv()
        except EOFError:
            raise LoadFailed("the measuring process died") from None
        if isinstance(answer, str):
            self.stop()
            raise LoadFailed(answer)
        return answer


def _measure_when_told(
    pipe: Connection, prepare: Callable[..., Measure], *arguments: object
) -> None:
    try:
        measure = prepare(*arguments)
        pipe.send({})
        while True:
            pipe.send(measure(pipe.recv()))
    except EOFError:
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}"[:500])


def bare_graph(model: str, path: Path, rows: int, device: str) -> Measure:
    """Prepares a CUDA graph of the model with plain torch; nothing of Kedge but the loader."""
    import torch

    from kedge.executors.torchscript import load_torchscript

    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    forward = load_torchscript(path, device).forward
    torch.inference_mode().__enter__()
    batch = torch.from_numpy(SHAPES[model].batch(rows))
    static = batch.to(device)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_RUNS):
            forward(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        answer = forward(static)
    host_in, host_out = batch.pin_memory(), torch.empty_like(answer, device="cpu").pin_memory()

    def with_copies() -> None:
        static.copy_(host_in, non_blocking=True)
        graph.replay()
        host_out.copy_(answer, non_blocking=True)

    def measure(seconds: float) -> Measures:
        return {
            **timed("graph", graph.replay, torch.cuda.synchronize, rows, seconds),
            **timed("graph_copies", with_copies, torch.cuda.synchronize, rows, seconds),
        }

    return measure


def timed(
    name: str, launch: Callable[[], None], wait: Callable[[], None], rows: int, seconds: float
) -> Measures:
    """Rows per second of launches back to back, and the median time of one launch and its wait."""
    launch()
    wait()
    took_ns = []
    for _ in range(LATENCY_RUNS):
        start_ns = time.monotonic_ns()
        launch()
        wait()
        took_ns.append(time.monotonic_ns() - start_ns)
        if sum(took_ns) > seconds * 1e9:
            break
    p50_ns = float(np.median(took_ns))
    chunk = max(1, int(CHUNK_S * 1e9 / p50_ns))
    launches, start_ns = 0, time.monotonic_ns()
    while time.monotonic_ns() - start_ns < seconds * 1e9:
        for _ in range(chunk):
            launch()
        wait()
        launches += chunk
    elapsed_s = (time.monotonic_ns() - start_ns) / 1e9
    return {f"{name}.rows_per_s": launches * rows / elapsed_s, f"{name}.p50_us": p50_ns / 1e3}


def executor(model: str, path: Path, rows: int, device: str) -> Measure:
    """Prepares the server's own executor, as a worker process has it."""
    from kedge.executors.make import make_executor

    shape = SHAPES[model]
    ready = make_executor(shape.manifest(path, rows, device), device, allow_model_code=False)
    batch = shape.batch(rows)

    def measure(seconds: float) -> Measures:
        return measure_executor(ready, batch, seconds)

    return measure


def measure_executor(ready: Any, batch: NDArray[np.generic], seconds: float) -> Measures:
    """ready: a `core.ports.Executor`. The inputs lie in ordinary memory, as in a worker, whose
    inputs are shared memory: the copy into pinned memory counts.
    """
    rows, dims = len(batch), [batch.shape[1:]]
    inputs = [batch.reshape(-1).view(np.uint8)]
    took_ns = _times_alone(ready, rows, dims, inputs, seconds)
    ended_ns = _times_ended(ready, rows, dims, inputs, seconds)
    return {
        "executor.rows_per_s": pace(np.array(ended_ns)) * rows,
        "executor.p50_us": float(np.median(took_ns)) / 1e3,
    }


def _times_alone(ready: Any, rows: int, dims: Any, inputs: Any, seconds: float) -> list[int]:
    """How long one batch takes with nothing else in flight."""
    took_ns: list[int] = []
    answered = threading.Semaphore(0)
    errors: list[Exception] = []

    def on_result(result: Any, final: bool) -> None:
        if result.error is not None:
            errors.append(result.error)
        answered.release()

    for _ in range(LATENCY_RUNS):
        start_ns = time.monotonic_ns()
        ready.submit(rows, dims, inputs, on_result)
        if not answered.acquire(timeout=READY_TIMEOUT_S) or errors:
            raise LoadFailed(str(errors[0]) if errors else "no answer")
        took_ns.append(time.monotonic_ns() - start_ns)
        if sum(took_ns) > seconds * 1e9:
            break
    return took_ns


def _times_ended(ready: Any, rows: int, dims: Any, inputs: Any, seconds: float) -> list[int]:
    """When each batch ended, with as many in flight as the executor takes."""
    ended_ns: list[int] = []
    errors: list[Exception] = []
    free = threading.Semaphore(ready.batches_free)
    in_flight = ready.batches_free

    def on_result(result: Any, final: bool) -> None:
        if result.error is not None:
            errors.append(result.error)
        ended_ns.append(time.monotonic_ns())
        free.release()

    end_ns = time.monotonic_ns() + int(seconds * 1e9)
    while time.monotonic_ns() < end_ns or len(ended_ns) < 3:
        if not free.acquire(timeout=READY_TIMEOUT_S) or errors:
            raise LoadFailed(str(errors[0]) if errors else "no answer")
        ready.submit(rows, dims, inputs, on_result)
    for _ in range(in_flight):
        free.acquire(timeout=READY_TIMEOUT_S)
    return ended_ns
