"""From a manifest to a warm executor on a GPU: is there one, how is the model run, does it run?"""

from __future__ import annotations

import logging
import threading

from kedge.core.errors import LoadFailed, ServeError
from kedge.core.ports import BatchResult, Executor
from kedge.core.settings import Compile
from kedge.core.values import VersionManifest
from kedge.executors.cuda.device import Device, Stream
from kedge.executors.cuda.faults import DeviceLost, is_out_of_memory, wait_until_idle
from kedge.executors.cuda.program import Inputs, Model
from kedge.executors.cuda.runners import WARMUP_RUNS, GraphRunner, PlainRunner, Runner
from kedge.executors.tensors import last_line, zero_inputs

log = logging.getLogger("kedge.executors")


def choose_runner(device: Device, stream: Stream, model: Model) -> tuple[Runner, str]:
    """Graphs if the model can be captured, else plain launches and the reason.

    Raises LoadFailed if memory does not suffice, if the model breaks its declaration, or if the
    attempt cost the device.
    """
    manifest = model.manifest
    reason = _why_no_graph(manifest)
    if not reason:
        try:
            return GraphRunner(device, stream, model), ""
        except ServeError as error:
            raise LoadFailed(f"model '{manifest.ref}': {error}") from error
        except Exception as error:
            reason = _after_failed_capture(device, manifest, error)
            log.warning("cuda.no_graph model=%s reason=%s", manifest.ref, reason)
    return PlainRunner(device, model), reason


def _why_no_graph(manifest: VersionManifest) -> str:
    if manifest.execution.compile is Compile.NONE:
        return "compile is 'none'"
    if not Inputs(manifest.schema).is_fixed:
        return "an input has free dimensions"
    return ""


def _after_failed_capture(device: Device, manifest: VersionManifest, error: Exception) -> str:
    """Why the capture failed; raises LoadFailed if plain launches cannot work either."""
    where = f"model '{manifest.ref}' on {device.name}"
    cause = _first_cause(error)
    if is_out_of_memory(cause):
        raise LoadFailed(
            f"{where}: out of memory at load: {last_line(cause)}; lower max_batch_size, or allow "
            "more device memory"
        ) from error
    try:
        wait_until_idle(device)
    except DeviceLost as lost:
        raise LoadFailed(f"{where}: {lost}") from error
    device.release_memory()
    return last_line(cause)


def _first_cause(error: Exception) -> Exception:
    """What went wrong first: ending a capture that has failed raises once more."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return error


def run_zeros(executor: Executor, manifest: VersionManifest, is_fixed: bool) -> None:
    """The smallest and the largest batch of zeros, whole way. Raises LoadFailed if one fails,
    unless free dimensions leave open which shapes are legal.
    """
    for rows in sorted({1, manifest.schema.rows_max}):
        for _ in range(WARMUP_RUNS):
            error = _run_zeros_once(executor, manifest, rows)
            if error is not None and is_fixed:
                raise LoadFailed(f"warm-up with {rows} rows of zeros: {error}")


def _run_zeros_once(executor: Executor, manifest: VersionManifest, rows: int) -> ServeError | None:
    dims, zeros = zero_inputs(manifest.schema, rows)
    results: list[BatchResult] = []
    is_done = threading.Event()

    def on_result(result: BatchResult, final: bool) -> None:
        results.append(result)
        is_done.set()

    try:
        executor.submit(rows, dims, zeros, on_result)
    except DeviceLost as lost:
        raise LoadFailed(f"warm-up with {rows} rows of zeros: {lost}") from lost
    # The executor's own deadline ends the wait; twice that would be a bug of ours.
    answered = is_done.wait(2 * manifest.execution.timeout_us / 1e6)
    assert answered, "a batch was never answered"
    return results[0].error
