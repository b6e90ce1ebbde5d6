"""How long a model's batches take, found out in a process of its own, which may crash or hang.

One process measures model after model, for importing torch takes longer than all the rest; it ends
when nothing was asked for a while.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import threading
from subprocess import Popen

from kedge.core.errors import LoadFailed
from kedge.process.channel import Channel, ChannelClosed
from kedge.process.child import describe_exit, end_child, start_child
from kedge.workers.supervisor import LOAD_S_MAX, MODULE, WorkerJob, worker_environment

IDLE_S_MAX = 5.0


class Prober:
    """`measure` may be called from any thread, one model at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._process: Popen[bytes] | None = None
        self._idle: threading.Timer | None = None

    def measure(self, job: WorkerJob) -> float:
        """The time of a full batch in us. Raises LoadFailed with the reason if there is none."""
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            try:
                return self._measure(job)
            finally:
                self._idle = threading.Timer(IDLE_S_MAX, self.close)
                self._idle.daemon = True
                self._idle.start()

    def _measure(self, job: WorkerJob) -> float:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._start()
        assert self._channel is not None
        try:
            self._channel.send("measure", blob=pickle.dumps(job))
            readable, _, _ = select.select([self._channel], [], [], LOAD_S_MAX)
            if not readable:
                self._end()
                raise LoadFailed(f"loading took over {LOAD_S_MAX:g} s")
            answer = self._channel.receive()
        except ChannelClosed:
            how = self._end()
            raise LoadFailed(f"the process that tried the model ended: {how}") from None
        if answer.kind != "loaded":
            raise LoadFailed(str(answer.fields.get("reason", "no reason was given")))
        return float(answer.fields["measured_us"])

    def _start(self) -> None:
        self._channel, theirs = Channel.pair()
        fd = theirs.fileno()
        self._process = start_child(MODULE, [str(fd), str(os.getpid())], [fd], worker_environment())
        theirs.close()

    def _end(self) -> str:
        """End the process, if there is one; how it ended."""
        if self._channel is not None:
            self._channel.close()
        how = ""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                how = describe_exit(end_child(self._process, wait_s=0.5))
        self._channel = self._process = None
        return how

    def close(self) -> None:
        with self._lock:
            self._end()
