"""A worker process: `python -m kedge.app.worker FD PARENT`, started by `kedge serve`.

Loads one model and runs its batches until the channel to its parent closes. Joins the executors
with the worker's loop; what a model's code does here harms nobody but this process.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import socket
import sys

from kedge.core.errors import ServeError
from kedge.core.ports import Executor, OnDevice
from kedge.process.channel import Channel, ChannelClosed, Message
from kedge.process.child import end_with_parent
from kedge.process.logs import FORMAT
from kedge.workers.loop import WorkerLoop
from kedge.workers.supervisor import WorkerJob

log = logging.getLogger("kedge.workers")

# Below the gateway, which needs little time but at once. At 19 a worker beside a client on the same
# two cores served a third less, at 15 a tenth less; `benchmarks/isolation.py` has the other side.
NICENESS = 15
# A compiler's messages may have megabytes; whoever loaded the model reads the beginning.
REASON_CHARS_MAX = 4_000


def main() -> int:
    """Measure models until one is to be served, serve it until the parent lets go; 1 if it could
    not be loaded.
    """
    fd, parent_pid = map(int, sys.argv[1:3])
    end_with_parent(parent_pid)
    os.nice(NICENESS)
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    channel = Channel.inherited(fd)
    try:
        while (message := channel.receive()).kind == "measure":
            _try(channel, _job_of(message), is_measured=True)
        job = _job_of(message)
        executor = _try(channel, job, is_measured=False)
        if executor is None:
            return 1
        # What exists now lives as long as the process: spare the collector from walking it again.
        gc.collect()
        gc.freeze()
        _serve(channel, job, executor)
    except ChannelClosed:
        pass  # the parent let go before there was anything to serve
    return 0


def _job_of(message: Message) -> WorkerJob:
    # From our own parent; nothing that a client or a model sent is in it.
    job: WorkerJob = pickle.loads(message.blob)  # noqa: S301
    return job


def _try(channel: Channel, job: WorkerJob, *, is_measured: bool) -> Executor | None:
    """Load a model and tell the parent how that went; None if it failed."""
    from kedge.executors.make import make_executor, measure_us  # noqa: PLC0415 - torch: 2 s

    try:
        executor = make_executor(
            job.manifest, job.device, allow_model_code=job.allow_model_code, state_dir=job.state_dir
        )
        batch_us = measure_us(executor, job.manifest).batch_us if is_measured else 0.0
    except Exception as error:
        is_ours = isinstance(error, ServeError)
        if not is_ours:
            log.exception("worker.load_failed %s", job.manifest.ref)
        reason = str(error) if is_ours else repr(error)
        channel.send("failed", {"reason": reason[:REASON_CHARS_MAX]})
        return None
    channel.send("loaded", {"measured_us": batch_us})
    return executor


def _serve(channel: Channel, job: WorkerJob, executor: Executor) -> None:
    manifest = job.manifest
    if isinstance(executor, OnDevice):
        executor.when_lost(_end_without_device)
    loop = WorkerLoop(
        executor,
        manifest.schema,
        manifest.batch.rows_max if manifest.batch.joins_requests else 1,
    )

    def on_channel() -> None:
        try:
            message = channel.receive()
        except ChannelClosed:
            loop.stop()
            return
        if message.kind == "attach":
            loop.add_gateway(socket.socket(fileno=message.fds[0]))

    loop.watch(channel.fileno(), on_channel)
    loop.run()
    # A Triton Python model finalizes; one that takes too long is killed by the parent.
    executor.close()


def _end_without_device(error: Exception) -> None:
    log.error("worker.device_lost %s", error)
    os._exit(1)


if __name__ == "__main__":
    # Without the interpreter's farewell: a model's threads may hang, its memory is freed anyway.
    code = main()
    sys.stderr.flush()
    os._exit(code)
