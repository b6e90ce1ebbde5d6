"""How much of a GPU's bare speed is served?

The same TorchScript model at the same batch as a bare CUDA-graph loop, through the executor in one
process, and through `kedge serve` with a worker on the GPU over gRPC, in turn in every round.
Expected: at least 95 % of the rows per second of the bare loop whose inputs are already on the
device, and at most 150 us on top of one replay. Needs this repository and an NVIDIA GPU; without
one it says so and exits with 3.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from _gpu_load import LoadFailed, load
from _gpu_models import SHAPES, ModelShape, make_model
from _gpu_parts import Measures, Part, bare_graph, executor
from _gpu_report import goals, markdown, medians
from _harness import console, keep_result, result_row, show
from _processes import ServerFailed, ServerProcess, ending_on_signals, free_ports

from kedge.client.connection import connect
from kedge.client.errors import KedgeError

BATCHES = (1, 4, 16, 64, 256)
QUICK_BATCHES = (1, 16, 256)
START_TIMEOUT_S = 300.0
READY_LINE = r"^ready grpc=(\S+)"
# Enough to hide what lies between client and GPU; all of it must fit into the server's queue of
# 256 MiB beside what is being received.
IN_FLIGHT_MAX = 16
IN_FLIGHT_BYTES_MAX = 160 * 1024 * 1024
INCONCLUSIVE = 3


def main() -> int:
    """Measures and prints; 0 if every goal is reached, 1 if not, 3 without a GPU."""
    options = parse_options()
    reason = why_no_gpu(options.device)
    if reason:
        console.print(f"not measured: {reason}", soft_wrap=True, highlight=False)
        return INCONCLUSIVE
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-gpu-") as folder:
        rows = [
            measure(SHAPES[name], batch, Path(folder), options)
            for name in options.models
            for batch in options.batches
        ]
    settings = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "clients": options.clients,
        "device": options.device,
    }
    result = {"gpu": gpu_fingerprint(options.device), "settings": settings, "rows": rows}
    result["goals"] = goals(rows)
    show(markdown(result))
    keep_result(result_row("gpu", result))
    return 0 if all(goal["reached"] for goal in result["goals"]) else 1


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--rounds", type=int, help="medians are over the rounds")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument("--quick", action="store_true", help="fewer batches, one short round")
    parser.add_argument("--device", default="cuda:0")
    clients = max(1, min(4, len(os.sched_getaffinity(0)) // 3))
    parser.add_argument("--clients", type=int, default=clients, help="client processes")
    options = parser.parse_args()
    options.batches = options.batches or (QUICK_BATCHES if options.quick else BATCHES)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (2.0 if options.quick else 5.0)
    return options


def why_no_gpu(device: str) -> str:
    """Why nothing can be measured here, in the words of the server; "" if it can."""
    from kedge.core.errors import ServeError
    from kedge.executors.cuda.presence import check_present
    from kedge.executors.cuda.torch_device import find_devices

    try:
        check_present(device, find_devices())
    except ServeError as refusal:
        return str(refusal)
    return ""


def gpu_fingerprint(device: str) -> dict[str, Any]:
    """What the figures depend on besides what _harness.fingerprint() has."""
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30),
        "multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": nvidia_smi("driver_version"),
        "pcie": f"gen {nvidia_smi('pcie.link.gen.max')} x{nvidia_smi('pcie.link.width.max')}",
        "power_limit": nvidia_smi("power.limit"),
    }


def nvidia_smi(field: str) -> str:
    """One field of the first GPU; "unknown" where the tool is absent."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.splitlines()[0].strip() if done.stdout else "unknown"


def measure(
    shape: ModelShape, batch: int, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """One model at one batch: everything started, then measured in turn; or why that failed."""
    row: dict[str, Any] = {"model": shape.name, "batch": batch}
    console.print(f"{shape.name}, batch {batch}", highlight=False)
    try:
        with ExitStack() as running:
            rounds = _rounds(shape, batch, folder, options, running)
    except (LoadFailed, ServerFailed) as failure:
        console.print(f"  failed: {failure}", soft_wrap=True, highlight=False)
        return {**row, "failed": str(failure)}
    return {**row, "rounds": rounds, "median": medians(rounds)}


def _rounds(
    shape: ModelShape, batch: int, folder: Path, options: argparse.Namespace, running: ExitStack
) -> list[Measures]:
    path = folder / f"{shape.name}.pt"
    if not path.exists():
        make_model(shape.name, folder)
    parts = []
    # One after the other: cuDNN tries its algorithms at load, and must have the GPU to itself.
    for prepare in (bare_graph, executor):
        parts.append(Part(prepare, shape.name, path, batch, options.device))
        running.callback(parts[-1].stop)
    address, server = _serve(shape, path, batch, options.device, folder, running)
    try:
        check_answer(address, shape, path)
    except KedgeError as error:
        # A version that cannot be loaded keeps no server from starting; its log has the reason.
        raise LoadFailed(f"{error}; the server's log ends:\n{server.log_tail(4)}") from error
    rounds = []
    for _ in range(options.rounds):
        measures: Measures = {}
        for part in parts:
            measures |= part.measure(options.seconds)
        measures |= _measure_served(address, shape, batch, options)
        rounds.append({name: round(value, 2) for name, value in measures.items()})
    return rounds


def _serve(
    shape: ModelShape, path: Path, batch: int, device: str, folder: Path, running: ExitStack
) -> tuple[str, ServerProcess]:
    """A server with the model on the GPU and its gRPC address, for as long as `running`."""
    name = f"{shape.name}_{batch}"
    endpoint = folder / f"{name}.yaml"
    endpoint.write_text(shape.endpoint(path, batch, device))
    ports = [
        f"--{kind}-port={port}"
        for kind, port in zip(("grpc", "http", "metrics"), free_ports(3), strict=True)
    ]
    command = [sys.executable, "-m", "kedge.cli", "serve", str(endpoint), *ports]
    server = ServerProcess(folder / f"{name}.log", *command, f"--state={folder / 'state'}")
    running.callback(server.stop)
    return server.wait_for_line(READY_LINE, START_TIMEOUT_S)[1], server


def check_answer(address: str, shape: ModelShape, path: Path) -> None:
    """One real call must return what the model answers on the CPU, within the precision of TF32.

    Raises LoadFailed for other values, KedgeError if there is no answer.
    """
    import torch

    from kedge.executors.torchscript import load_torchscript

    inputs = shape.batch(1)
    with torch.inference_mode():
        wanted = load_torchscript(path, "cpu")(torch.from_numpy(inputs)).numpy()
    got = connect(address).predict(shape.name, {"x": inputs})["y"]
    scale = float(np.abs(wanted).max())
    if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=0.0, atol=0.02 * scale):
        raise LoadFailed(f"{address} answers other values than the model: {got[0, :4]}")


def _measure_served(
    address: str, shape: ModelShape, batch: int, options: argparse.Namespace
) -> Measures:
    request = shape.request(batch)
    in_flight = min(IN_FLIGHT_MAX, max(4, IN_FLIGHT_BYTES_MAX // len(request)))
    processes = min(options.clients, in_flight)
    full = load(address, request, processes, in_flight // processes, options.seconds)
    alone = load(address, request, 1, 1, options.seconds)
    return {
        "served.rows_per_s": full.requests_per_s * batch,
        "served.p99_us": full.p99_us,
        "served.p50_us": alone.p50_us,
    }


if __name__ == "__main__":
    sys.exit(main())
