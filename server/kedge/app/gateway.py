"""The gateway process: `python -m kedge.app.gateway CHANNEL LOG PARENT`, started by `kedge serve`.

Receives, batches and answers, and runs small trusted models; everything else is another process.
Joins the front, the pipeline, the inline executor and the pools of workers.
`control/gateway_process.py` has the other end of its channel.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from kedge import __version__
from kedge.control.forwarder import CallForwarder
from kedge.control.gateway_process import GatewayStart
from kedge.control.rpc import ROLES_OF
from kedge.core.clock import SystemClock
from kedge.core.errors import ServeError, Unavailable
from kedge.core.ports import Front
from kedge.core.settings import ServerSettings
from kedge.front.auth import load_access
from kedge.front.make import make_front
from kedge.process.channel import Channel, ChannelClosed
from kedge.process.child import end_with_parent
from kedge.process.logs import SocketHandler
from kedge.proto import INFERENCE_SERVICE

INFER = INFERENCE_SERVICE + "ModelInfer"
INFER_STREAM = INFERENCE_SERVICE + "ModelStreamInfer"


def main() -> int:
    """Serve until the control process says stop, or ends."""
    channel_fd, log_fd, parent_pid = map(int, sys.argv[1:4])
    end_with_parent(parent_pid)
    os.set_inheritable(log_fd, False)
    lines = SocketHandler(socket.socket(fileno=log_fd))
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    # One thread per operator: the gateway's own threads need the other cores, and with two intra-op
    # threads on two cores small models ran 20 times slower. Read once, when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    channel = Channel.inherited(channel_fd)
    try:
        # From our own parent; nothing that a client or a model sent is in it.
        start: GatewayStart = pickle.loads(channel.receive().blob)  # noqa: S301
        front = _listen(start.settings)
    except ChannelClosed:
        return 1
    except ServeError as error:
        channel.send("failed", {"error": [error.reason, str(error)]})
        return 1
    channel.send("listening", {"port": front.port, "local": list(front.local)})
    _serve(channel, start, front)
    return 0


def _serve(channel: Channel, start: GatewayStart, front: Front) -> None:
    """Serve on this thread until `stop`, drain, and wait for the control process to let go."""
    from kedge.app.versions import Versions  # noqa: PLC0415 - numba: 1 s
    from kedge.pipeline.serve import Gateway  # noqa: PLC0415
    from kedge.workers.reader import Reader  # noqa: PLC0415
    from kedge_kernels.codec import warm  # noqa: PLC0415

    clock = SystemClock()
    reader = Reader(clock, lambda worker, hangs: _lost(channel, worker, hangs))

    def counters() -> Mapping[str, Any]:
        process = {
            "pid": os.getpid(),
            "version": __version__,
            "refused": gateway.refused,
            "queue_bytes": gateway.queue_bytes,
        }
        return {"versions": versions.statistics(), "process": process}

    forwarder = CallForwarder(channel, start.counted_methods, counters)
    gateway = Gateway(front, forwarder.forward, clock, start.settings.queue_bytes_max)
    versions = Versions(channel, gateway, reader, clock)
    control_is_gone = threading.Event()

    def receive() -> None:
        try:
            while True:
                message = channel.receive()
                if message.kind == "answer":
                    forwarder.answer(message)
                elif message.kind == "stop":
                    gateway.stop()
                else:
                    versions.take(message)
        except ChannelClosed:
            control_is_gone.set()
            gateway.stop()

    threading.Thread(target=receive, name="control", daemon=True).start()
    # Side by side: a model that is loaded here imports torch while the kernels are made ready.
    versions.start()
    warm()
    reader.start()
    forwarder.start()
    front.start()
    # What exists now lives as long as the process: spare the collector from walking it again.
    gc.collect()
    gc.freeze()
    answered = gateway.run(start.settings.drain_s_max)
    if not control_is_gone.is_set():
        channel.send("drained", {"answered": answered})
        control_is_gone.wait()
    versions.close()
    front.close()


def _lost(channel: Channel, worker: int, hangs: bool) -> None:
    channel.send("lost", {"worker": worker, "hangs": hangs})


def _listen(settings: ServerSettings) -> Front:
    access = load_access(settings.token_file)
    try:
        return make_front(settings, INFER, INFER_STREAM, ROLES_OF, access)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {settings.host}:{settings.grpc_port} for gRPC: {error}; choose "
            "another --grpc-port (0: any free one) or --host"
        ) from None
    except ValueError as error:
        raise Unavailable(str(error)) from None


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Without the interpreter's farewell: threads of a model may hang, its memory is freed anyway.
    os._exit(code)
