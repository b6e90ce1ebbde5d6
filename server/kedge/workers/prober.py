"""How long a model's batches take, found out in a process of its own, which may crash or hang.

One process measures model after model, for importing torch takes longer than all the rest; it ends
when nothing was asked for a while.
"""

from __future__ import annotations

import pickle
import threading
from subprocess import Popen

from kedge.core.errors import LoadFailed
from kedge.process.channel import Channel, ChannelClosed
from kedge.process.child import describe_exit, end_child
from kedge.workers.supervisor import (
    LOAD_S_MAX,
    WorkerJob,
    start_worker,
)

IDLE_S_MAX = 5.0
# From the first byte of an answer to its last one.
ANSWER_S_MAX = 5.0


class Prober:
    """`measure` may be called from any thread, one model at a time, until `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._process: Popen[bytes] | None = None
        self._idle: threading.Timer | None = None
        self._is_closed = False

    def measure(self, job: WorkerJob) -> float:
        """The time of a full batch in us. Raises LoadFailed with the reason if there is none."""
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            try:
                return self._measure(job)
            finally:
                self._idle = threading.Timer(IDLE_S_MAX, self._end_idle)
                self._idle.daemon = True
                self._idle.start()

    def _measure(self, job: WorkerJob) -> float:
        if self._channel is None or self._process is None or self._process.poll() is not None:
            self._end()
            self._start()
        assert self._channel is not None
        try:
            if self._is_closed:
                raise ChannelClosed("the server ends")
            self._channel.send("measure", blob=pickle.dumps(job))
            if not self._channel.wait(LOAD_S_MAX):
                self._end()
                raise LoadFailed(f"loading took over {LOAD_S_MAX:g} s")
            answer = self._channel.receive(ANSWER_S_MAX)
        except ChannelClosed as closed:
            how = self._end()
            reason = str(closed) if self._is_closed else how
            raise LoadFailed(f"the process that tried the model ended: {reason}") from None
        if answer.kind != "loaded":
            raise LoadFailed(str(answer.fields.get("reason", "no reason was given")))
        return float(answer.fields["measured_us"])

    def _start(self) -> None:
        try:
            self._process, self._channel = start_worker()
        except OSError as error:
            raise LoadFailed(f"no process to try the model could be started: {error}") from None

    def _end(self) -> str:
        """End the process, if there is one; how it ended."""
        if self._channel is not None:
            self._channel.close()
        how = ""
        if self._process is not None:
            how = describe_exit(end_child(self._process, wait_s=0.5))
        self._channel = self._process = None
        return how

    def _end_idle(self) -> None:
        with self._lock:
            if self._idle is threading.current_thread():  # nothing was asked since it fired
                self._end()

    def close(self) -> None:
        """Measure no more; whoever waits for a model gets LoadFailed at once."""
        self._is_closed = True
        channel = self._channel
        if channel is not None:
            channel.close()
        with self._lock:
            self._end()
