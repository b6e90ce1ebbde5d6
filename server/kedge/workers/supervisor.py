"""Starts the worker processes of one version and starts them again when they end.

One thread per instance. Not here: what a worker does (`loop.py`) and who uses it (`pool.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Protocol

from kedge.core.errors import LoadFailed, ServeError, Unavailable
from kedge.core.values import VersionManifest
from kedge.process.channel import Channel, ChannelClosed
from kedge.process.child import describe_exit, end_child, start_child

log = logging.getLogger("kedge.workers")

MODULE = "kedge.app.worker"
# Compiling a large model takes minutes, downloading its weights is over by then.
LOAD_S_MAX = 600.0
# A worker that ends at once is started again after 0.1 s, 0.2 s, ... and at most every 10 s.
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 10.0
# After that many starts without a loaded model, requests are refused instead of held.
FAILED_STARTS_MAX = 3
# A worker sends nothing but whether it has loaded, and if not, why.
REPLY_BYTES_MAX = 65_536
# A worker's end closes its channel, unless a process that its model started holds that open.
CHECK_S = 1.0
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """What a worker is told to serve."""

    manifest: VersionManifest
    device: str
    allow_model_code: bool
    state_dir: Path


class WorkerEvents(Protocol):
    """Who uses the workers; called from the instances' threads."""

    def worker_loaded(self, worker: int, connection: socket.socket) -> None: ...
    def worker_ended(self, worker: int, how: str) -> None: ...
    def no_worker(self, error: ServeError) -> None: ...


class WorkerGroup:
    """One process per job, until `stop`. events: who is told; see `WorkerEvents`."""

    def __init__(self, jobs: Sequence[WorkerJob], events: WorkerEvents) -> None:
        self._events = events
        # Whoever holds it tells, so that what is told last is what is.
        self._telling = threading.RLock()
        self._instances = [_Instance(job, events, self._telling, self._tell_down) for job in jobs]

    def start(self) -> None:
        """Start all; returns when all have loaded.

        Raises LoadFailed with the reason of the first that could not; none runs then.
        """
        for instance in self._instances:
            instance.thread.start()
        for instance in self._instances:
            instance.first_try_is_over.wait(LOAD_S_MAX + 2 * BACKOFF_S_MAX)
        failed = [one.failure for one in self._instances if not one.has_ever_loaded]
        if failed:
            self.stop()
            raise failed[0] or LoadFailed("a worker took too long to load the model")

    def connect(self) -> None:
        """Give every worker that has loaded a new connection, for a gateway that has none yet."""
        for instance in self._instances:
            instance.connect()
        self._tell_down()

    def _tell_down(self) -> None:
        """Say so if no instance has a worker, nor will have one soon."""
        with self._telling:
            errors = [one.down for one in self._instances if one.down is not None]
            if len(errors) == len(self._instances):
                self._events.no_worker(errors[0])

    def kill(self, worker: int) -> None:
        """End a worker that hangs; it is started again."""
        for instance in self._instances:
            instance.kill(worker)

    def stop(self) -> None:
        """End all, by force after a while; none is there when this returns."""
        self.end()
        for instance in self._instances:
            if instance.thread.ident is not None:
                instance.thread.join()

    def end(self) -> None:
        """Tell all to end, and start none again; `stop` waits for them."""
        for instance in self._instances:
            instance.end()

    @property
    def pids(self) -> list[int]:
        """The processes that were started last, loaded or not."""
        return [one.process.pid for one in self._instances if one.process is not None]

    @property
    def running(self) -> int:
        """How many workers have loaded the model and run."""
        return sum(one.has_loaded for one in self._instances)

    @property
    def restarts(self) -> int:
        """How often a worker was started again after one that had loaded the model ended."""
        return sum(one.restarts for one in self._instances)


class _Instance:
    """One place in the group: a process, and the thread that starts it over and over."""

    def __init__(
        self,
        job: WorkerJob,
        events: WorkerEvents,
        telling: threading.RLock,
        tell_down: Callable[[], None],
    ) -> None:
        self._job = job
        self._events = events
        self._telling = telling
        self._tell_down = tell_down
        self._ending = threading.Event()
        self._channel: Channel | None = None
        self._worker = 0
        self.has_loaded = False
        self.restarts = 0
        self._lock = threading.Lock()
        self.process: Popen[bytes] | None = None
        self.has_ever_loaded = False
        self.failure: LoadFailed | None = None
        # Set after FAILED_STARTS_MAX starts in vain, until one loads.
        self.down: Unavailable | None = None
        self.first_try_is_over = threading.Event()
        self.thread = threading.Thread(
            target=self._supervise, name=f"worker-{job.manifest.ref}", daemon=True
        )

    def _supervise(self) -> None:
        backoff_s = BACKOFF_S_FIRST
        failed_starts = 0
        while not self._ending.is_set():
            has_loaded = self._run_once()
            is_first_try = not self.first_try_is_over.is_set()
            self.first_try_is_over.set()
            if self._ending.is_set() or (is_first_try and not has_loaded):
                return
            self.restarts += has_loaded
            failed_starts = 0 if has_loaded else failed_starts + 1
            if failed_starts >= FAILED_STARTS_MAX:
                ref = self._job.manifest.ref
                self.down = Unavailable(f"model '{ref}' has no worker: {self.failure}")
                self._tell_down()
            backoff_s = BACKOFF_S_FIRST if has_loaded else min(2 * backoff_s, BACKOFF_S_MAX)
            self._ending.wait(backoff_s)

    def _run_once(self) -> bool:
        """Run one process until it ends; whether it loaded the model."""
        try:
            process, channel = self._start()
        except ChannelClosed:
            return False
        except OSError as error:  # no process, descriptor or memory left
            self.failure = LoadFailed(f"its worker could not be started: {error}")
            return False
        try:
            channel.send("load", blob=pickle.dumps(self._job))
            self._wait_loaded(process, channel)
            self._serve(process, channel)
        except ChannelClosed:
            pass  # it ended, or is about to
        except LoadFailed as error:
            self.failure = error
        except OSError as error:  # no descriptors for its connection
            log.warning("worker.not_connected model=%s %s", self._job.manifest.ref, error)
            process.kill()
        with self._lock:
            has_loaded, self.has_loaded = self.has_loaded, False
            channel.close()
        how = describe_exit(end_child(process))
        if not has_loaded and self.failure is None:
            self.failure = LoadFailed(f"its worker ended while it loaded the model: {how}")
        if has_loaded and not self._ending.is_set():
            ref = self._job.manifest.ref
            log.warning("worker.ended model=%s worker=%d %s", ref, self._worker, how)
            self._events.worker_ended(self._worker, how)
        return has_loaded

    def _start(self) -> tuple[Popen[bytes], Channel]:
        """A new process and its channel. Raises OSError, ChannelClosed if there is to be none."""
        with self._lock:
            if self._ending.is_set():
                raise ChannelClosed("it is to end")
            process, channel = start_worker()
            self._worker = next(_numbers)
            self._channel = channel
            self.has_loaded = False
            self.process = process
        return process, channel

    def _wait_loaded(self, process: Popen[bytes], channel: Channel) -> None:
        """Raises LoadFailed with the worker's reason, ChannelClosed if it ended."""
        until_s = time.monotonic() + LOAD_S_MAX
        while not channel.wait(min(CHECK_S, until_s - time.monotonic())):
            if process.poll() is not None:
                raise ChannelClosed("it ended")
            if time.monotonic() > until_s:
                process.kill()
                raise LoadFailed(f"loading took over {LOAD_S_MAX:g} s; the worker was killed")
        answer = channel.receive(CHECK_S)
        if answer.kind != "loaded":
            raise LoadFailed(str(answer.fields.get("reason", "the worker gave no reason")))
        self.failure = None
        self.has_ever_loaded = True

    def _serve(self, process: Popen[bytes], channel: Channel) -> None:
        """Connect the gateway, then wait until the process ends, or says what nobody asked."""
        with self._lock:
            self.has_loaded = True
        with self._telling:
            self.down = None
            self.connect()
        self.first_try_is_over.set()
        while not channel.wait(CHECK_S):
            if process.poll() is not None:
                return
        channel.receive(CHECK_S)

    def connect(self) -> None:
        """A new connection between the worker and whoever is told of it."""
        with self._lock:
            if not self.has_loaded or self._channel is None:
                return
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with contextlib.suppress(ChannelClosed):
                self._channel.send("attach", fds=[theirs.fileno()])
            theirs.close()
            worker = self._worker
        self._events.worker_loaded(worker, ours)

    def kill(self, worker: int) -> None:
        with self._lock:
            if self._worker == worker and self.process is not None:
                self.process.kill()

    def end(self) -> None:
        """Tell the process to end; do not start it again."""
        self._ending.set()
        with self._lock:
            if self._channel is not None:
                with contextlib.suppress(ChannelClosed, OSError):
                    self._channel.close()


def start_worker() -> tuple[Popen[bytes], Channel]:
    """A worker process that waits for its first message, and the channel to it. Raises OSError."""
    channel, theirs = Channel.pair(REPLY_BYTES_MAX)
    fd = theirs.fileno()
    with theirs:
        try:
            process = start_child(MODULE, [str(fd), str(os.getpid())], [fd], worker_environment())
        except OSError:
            channel.close()
            raise
    return process, channel


def worker_environment() -> dict[str, str]:
    """One thread per operator unless somebody chose: with two on two cores small models ran 20
    times slower, and several workers would fight for the cores.
    """
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
