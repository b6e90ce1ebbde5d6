"""What does a worker process cost, compared with running the model in the gateway?

The hop: from `submit` in a process that stands for the gateway until the result is there, less the
model's own time, with a real worker process that answers its input, at 8 KB, 600 KB and 38 MB; once
handing the input back, once with an answer in new memory. Then the whole way of one request, inline
and through a worker. Expected: a hop of at most 100 us at 8 KB (p50).
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _checks import Check, check_table, exit_code
from _harness import (
    BENCHMARKS_PAGE,
    console,
    how,
    keep_result,
    replace_block,
    result_row,
    run_benchmark,
    show,
    write_block,
)
from _kedge import Endpoint, make_torchscript, running_kedge
from _load import h2load
from _processes import ending_on_signals
from _wire import MODELS, check_answer, infer_request

from kedge.config.load import load_endpoint
from kedge.core.clock import SystemClock
from kedge.core.errors import ServeError
from kedge.core.ports import BatchResult
from kedge.core.values import VersionManifest
from kedge.workers.pool import WorkerPool
from kedge.workers.reader import Reader
from kedge.workers.supervisor import WorkerGroup, WorkerJob

HOP_US_MAX = 100.0
ANSWER_S_MAX = 30.0
WARM_UP_S = 0.5
WARM_BATCHES = 20


@dataclass(frozen=True)
class Size:
    """One size of batch: rows of a model, and how often it is sent."""

    text: str
    model: str
    rows: int
    batches: int


SIZES = (
    Size("8 KB", "row_8k", 1, 5_000),
    Size("600 KB", "image", 1, 1_000),
    Size("38 MB", "image", 64, 100),
)
WAYS = ("inline", "workers")
WHOLE = ("row_8k", "image")


def main() -> int:
    """Measures and shows; 1 if the goal is missed."""
    options = parse_options()
    if options.write_readme:
        replace_block(BENCHMARKS_PAGE.read_text(), "hop", "")
    share = 0.1 if options.quick else 1.0
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-") as folder:
        hops = {}
        for size in SIZES:
            for ending in ("", "-copy"):
                own_folder = Path(folder, f"{size.model}{ending}-{size.rows}")
                own_folder.mkdir()
                with console.status(f"hop at {size.text}{ending}"):
                    hops[f"{size.text}{ending}"] = measure_hop(size, ending, own_folder, share)
        whole = {
            placement: measure_whole(Path(folder, placement), placement, options.seconds)
            for placement in WAYS
        }
    checks = [Check("p50 of the hop at 8 KB", hops["8 KB"]["p50_us"], HOP_US_MAX, "µs")]
    found = {"hops": hops, "whole": whole, "checks": [check.row() for check in checks]}
    row = result_row("hop", {"settings": {"seconds": options.seconds}, **found})
    report = markdown(row, checks)
    show(report)
    keep_result(row, options.quick)
    if options.write_readme:
        write_block(BENCHMARKS_PAGE, "hop", report)
    return exit_code(checks)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load of whole requests")
    parser.add_argument("--quick", action="store_true", help="a tenth of the batches, 0.5 s loads")
    parser.add_argument("--write-readme", action="store_true", help="table into the page")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 0.5
    return options


# The hop


def measure_hop(size: Size, ending: str, folder: Path, share: float) -> dict[str, float]:
    """Percentiles over single batches, one after the other, less the model's own time."""
    make_torchscript(folder, [f"{size.model}{ending}"])
    interface = MODELS[size.model]
    endpoint = Endpoint(size.model, f"{size.model}{ending}.pt", interface, "workers")
    endpoint_file = folder / "endpoint.yaml"
    endpoint_file.write_text(endpoint.document(rows_max=size.rows))
    manifest = load_endpoint(endpoint_file).manifests[0]
    with running_pool(manifest, folder) as pool:
        times = [one_batch(pool, size) for _ in range(WARM_BATCHES + round(size.batches * share))]
    hop_ns, model_ns = np.array(times[WARM_BATCHES:]).T
    p50_us, p99_us = np.percentile(hop_ns, [50, 99]) / 1000
    model_us = float(np.median(model_ns)) / 1000
    return {
        "p50_us": round(float(p50_us), 1),
        "p99_us": round(float(p99_us), 1),
        "model_p50_us": round(model_us, 1),
        "batches": len(hop_ns),
    }


class _Events:
    """Hands a worker that has loaded to the pool, as the gateway process does."""

    def __init__(self, pool: WorkerPool, reader: Reader) -> None:
        self._pool = pool
        self._reader = reader

    def worker_loaded(self, worker: int, connection: socket.socket) -> None:
        """See kedge.workers.supervisor.WorkerEvents."""
        self._reader.add(self._pool, self._pool.attach(connection, worker))

    def worker_ended(self, worker: int, how_it_ended: str) -> None:
        """See kedge.workers.supervisor.WorkerEvents."""
        self._reader.ended(worker, how_it_ended)

    def no_worker(self, error: ServeError) -> None:
        """See kedge.workers.supervisor.WorkerEvents."""
        self._pool.set_down(error)


@contextmanager
def running_pool(manifest: VersionManifest, folder: Path) -> Iterator[WorkerPool]:
    """One worker process with the model, and the gateway's end of it; ended with the block."""
    clock = SystemClock()
    reader = Reader(clock, lambda worker, hangs: None)
    pool = WorkerPool(manifest, clock, lambda: None)
    job = WorkerJob(manifest, "cpu", allow_model_code=False, state_dir=folder / "state")
    group = WorkerGroup([job], _Events(pool, reader))
    reader.start()
    group.start()
    try:
        yield pool
    finally:
        reader.forget(pool)
        pool.close()
        group.stop()


def one_batch(pool: WorkerPool, size: Size) -> tuple[int, int]:
    """Sends one batch: nanoseconds of the hop without the model, and of the model."""
    interface = MODELS[size.model]
    row_bytes = int(np.prod(interface.input_dims)) * 4
    buffers = pool.allocate(size.rows, [interface.input_dims], [size.rows * row_bytes])
    buffers[0][:] = 1
    is_done = threading.Event()
    seen: list[tuple[int, BatchResult]] = []

    def on_result(result: BatchResult, _final: bool) -> None:
        seen.append((time.perf_counter_ns(), result))
        is_done.set()

    begin_ns = time.perf_counter_ns()
    pool.submit(size.rows, [interface.input_dims], buffers, on_result)
    if not is_done.wait(ANSWER_S_MAX):
        raise TimeoutError(f"no answer within {ANSWER_S_MAX:.0f} s")
    end_ns, result = seen[0]
    if result.error is not None:
        raise result.error
    while pool.batches_free == 0:
        # The slot is freed by the thread that called on_result, right after it.
        time.sleep(0)
    return end_ns - begin_ns - result.infer_ns, result.infer_ns


# The whole way


def measure_whole(folder: Path, placement: str, seconds: float) -> dict[str, dict[str, float]]:
    """Latency of single requests at `kedge serve`, one at a time."""
    found = {}
    with running_kedge(folder, WHOLE, placement) as server:
        for model in WHOLE:
            check_answer(server.address, server.expected[model], model)
            message = infer_request(model).SerializeToString()
            h2load(server.address, message, 1, WARM_UP_S)
            load = h2load(server.address, message, 1, seconds)
            found[model] = {"p50_us": load.p50_us, "p99_us": load.p99_us}
    return found


# The report


def markdown(row: dict[str, Any], checks: list[Check]) -> str:
    """The goal, the hop by size, the whole way by placement."""
    lines = ["| hop, µs | p50 | p99 | model |", "|---|--:|--:|--:|"]
    for name, hop in row["hops"].items():
        text = name.replace("-copy", ", answer in new memory")
        lines.append(
            f"| {text} | {hop['p50_us']:,.0f} | {hop['p99_us']:,.0f} | {hop['model_p50_us']:,.0f} |"
        )
    whole = ["| whole request, 1 in flight, p50 / p99 µs | inline | worker |", "|---|--:|--:|"]
    for model in WHOLE:
        text = next(size.text for size in SIZES if size.model == model)
        figures = [row["whole"][placement][model] for placement in WAYS]
        cells = [f"{one['p50_us']:,.0f} / {one['p99_us']:,.0f}" for one in figures]
        whole.append(f"| {text} | {' | '.join(cells)} |")
    settings = f"{row['settings']['seconds']:g} s a load"
    return "\n\n".join(
        [check_table(checks), "\n".join(lines), "\n".join(whole), how(row, settings)]
    )


if __name__ == "__main__":
    run_benchmark(main)
