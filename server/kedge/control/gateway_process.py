"""The gateway process as the control process sees it: started, told what to serve, started again.

Messages down: start, open, attach, worker_ended, no_worker, install, close, answer, stop. Up:
listening, failed, done, call, lost, drained. What a version is called between the two is its key.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from subprocess import Popen
from typing import Any

from kedge.core.errors import (
    LoadFailed,
    ServeError,
    Unavailable,
    error_from_reason,
)
from kedge.core.ports import LocalWay
from kedge.core.settings import ServerSettings
from kedge.core.values import VersionManifest
from kedge.process.channel import Channel, ChannelClosed, Message
from kedge.process.child import describe_exit, end_child, start_child
from kedge.process.logs import write_lines

log = logging.getLogger("kedge.control")

MODULE = "kedge.app.gateway"
START_S_MAX = 60.0
# An inline model may be large; every other request is answered at once.
OPEN_S_MAX = 300.0
INSTALL_S_MAX = 30.0
# What a version that was taken out still has to run.
CLOSE_S_MAX = 60.0
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 5.0

# (method, payload, the gateway's counters, answer): one call that is no inference.
HandleCall = Callable[[int, bytes, Mapping[str, Any], Callable[[bytes | ServeError], None]], None]


class GatewayGone(Unavailable):
    """The process is not there, or ended before it had done what it was asked."""


@dataclass(frozen=True, slots=True)
class GatewayStart:
    """What a gateway is started with. counted_methods: whose calls need the statistics."""

    settings: ServerSettings
    counted_methods: frozenset[int]


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """A version that the gateway has open. connect: gives every worker a new connection."""

    manifest: VersionManifest
    inline: bool
    connect: Callable[[], None]


class GatewayProcess:
    """One child process. It is started again when it ends before `stop`, with what it had open.

    handle_call: answers calls that are no inference. on_lost(worker, hangs): a worker's connection
    broke, or it ran a batch for too long. on_listening(port, way): a gateway listens, the first one
    or one that was started again. All callbacks run on this object's own thread.
    """

    def __init__(
        self,
        start: GatewayStart,
        handle_call: HandleCall,
        on_lost: Callable[[int, bool], None],
        on_listening: Callable[[int, LocalWay], None],
    ) -> None:
        self._start = start
        self._on_listening = on_listening
        self._handle_call = handle_call
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._waiting: dict[int, queue.SimpleQueue[ServeError | None]] = {}
        self._serial = 0
        self._open: dict[str, OpenedVersion] = {}
        self._installed: Mapping[str, Mapping[str, str]] = {}
        self._started: queue.SimpleQueue[ServeError | None] = queue.SimpleQueue()
        self._drained: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._is_let_go = False
        # While a process has all that it was told; and at the very end, when none will come.
        self._is_told = threading.Event()
        self._ended = threading.Event()
        self.process: Popen[bytes] | None = None
        self.restarts = 0
        self._thread = threading.Thread(target=self._supervise, name="gateway-process", daemon=True)

    # What the control process asks

    def start(self) -> None:
        """Start the process; it listens when this returns. Raises ServeError if it cannot."""
        self._thread.start()
        try:
            started = self._started.get(timeout=START_S_MAX)
        except queue.Empty:
            raise Unavailable(f"the gateway did not start within {START_S_MAX:g} s") from None
        if isinstance(started, ServeError):
            raise started

    def open(self, key: str, version: OpenedVersion) -> None:
        """Make a version ready to be installed. Raises LoadFailed."""
        with self._lock:
            self._open[key] = version
        try:
            self._ask("open", *_open_request(key, version), wait_s=OPEN_S_MAX)
        except ServeError as error:
            with self._lock:
                del self._open[key]
            raise LoadFailed(str(error)) from None

    def preload(self) -> None:
        """A model may be opened inline soon: import what that needs meanwhile."""
        self._tell("preload", {})

    def attach(self, key: str, worker: int, connection: socket.socket) -> None:
        """Give the gateway its end of the connection to a worker; it uses it when this returns."""
        fields = {"key": key, "worker": worker}
        try:
            self._ask("attach", fields, fds=[connection.fileno()], wait_s=INSTALL_S_MAX)
        except ServeError as error:
            log.warning("worker.not_attached %s %s", key, error)
        connection.close()

    def worker_ended(self, key: str, worker: int, how: str) -> None:
        self._tell("worker_ended", {"key": key, "worker": worker, "how": how})

    def no_worker(self, key: str, error: ServeError) -> None:
        self._tell("no_worker", {"key": key, "reason": str(error)})

    def install(self, models: Mapping[str, Mapping[int, str]]) -> None:
        """Serve exactly these versions, keys by model and number, when this returns."""
        with self._lock:
            self._installed = {
                name: {str(number): key for number, key in versions.items()}
                for name, versions in models.items()
            }
            installed = self._installed
        try:
            self._ask("install", {"models": installed}, wait_s=INSTALL_S_MAX)
        except GatewayGone as error:
            log.info("gateway.gone kind=install %s", error)  # the next one begins with it

    def close_version(self, key: str) -> None:
        """Close a version that is installed no more, once what it accepted has run."""
        with self._lock:
            self._open.pop(key, None)
        try:
            self._ask("close", {"key": key}, wait_s=CLOSE_S_MAX)
        except GatewayGone as error:
            log.info("gateway.gone kind=close %s", error)  # and the version with it
        except ServeError as error:
            log.warning("model.close_failed %s %s", key, error)

    def drain(self, drain_s_max: float) -> bool:
        """Refuse what comes from now on; whether all that was accepted is answered."""
        self._stopping.set()
        self._tell("stop", {"drain_s_max": drain_s_max})
        try:
            # The gateway keeps the time; a little longer, so that it is the one to say so.
            return self._drained.get(timeout=drain_s_max + 5.0)
        except queue.Empty:
            return False

    def stop(self) -> None:
        """End the process."""
        self._stopping.set()
        with self._lock:
            self._is_let_go = True
            if self._channel is not None:
                self._channel.close()
        self._ended.wait(END_S_MAX)

    # Messages

    def _tell(
        self, kind: str, fields: Mapping[str, Any], blob: bytes = b"", fds: Sequence[int] = ()
    ) -> bool:
        """Send, unless the gateway is gone; then it learns all when it is started again. Whether it
        was sent.
        """
        with self._lock:
            channel = self._channel
        if channel is None:
            return False
        try:
            channel.send(kind, fields, blob, fds)
        except ChannelClosed:
            log.info("gateway.gone kind=%s", kind)
            return False
        return True

    def _ask(
        self,
        kind: str,
        fields: Mapping[str, Any],
        blob: bytes = b"",
        fds: Sequence[int] = (),
        *,
        wait_s: float,
    ) -> None:
        """Send and wait until it is done; first for a gateway that is only being started, which
        must be told what the last one had. Raises ServeError with its reason, GatewayGone.
        """
        self._is_told.wait(START_S_MAX)
        done: queue.SimpleQueue[ServeError | None] = queue.SimpleQueue()
        with self._lock:
            self._serial += 1
            serial = self._serial
            self._waiting[serial] = done
        error: ServeError | None
        try:
            if self._tell(kind, {"serial": serial, **fields}, blob, fds):
                error = done.get(timeout=wait_s)
            else:
                error = GatewayGone("the gateway process is not running")
        except queue.Empty:
            error = Unavailable(f"the gateway did not {kind} within {wait_s:g} s")
        finally:
            with self._lock:
                self._waiting.pop(serial, None)
        if error is not None:
            raise error

    def _receive(self, channel: Channel) -> None:
        """Serve the gateway's messages until it ends."""
        while True:
            message = channel.receive()
            try:
                self._take(channel, message)
            except Exception:  # a bug of ours; the gateway serves on
                log.exception("gateway.message_failed kind=%s", message.kind)

    def _take(self, channel: Channel, message: Message) -> None:
        fields = message.fields
        match message.kind:
            case "call":
                self._call(channel, message)
            case "done":
                with self._lock:
                    done = self._waiting.get(fields["serial"])
                reason = fields["error"]
                if done is not None:
                    done.put(None if reason is None else Unavailable(reason))
                elif reason is not None:
                    log.error("gateway.change_failed %s", reason)
            case "lost":
                self._on_lost(fields["worker"], fields["hangs"])
            case "drained":
                self._drained.put(fields["answered"])

    def _call(self, channel: Channel, message: Message) -> None:
        number = message.fields["call"]

        def answer(result: bytes | ServeError) -> None:
            try:
                if isinstance(result, ServeError):
                    error = [result.reason, str(result)]
                    channel.send("answer", {"call": number, "error": error})
                else:
                    channel.send("answer", {"call": number, "error": None}, result)
            except ChannelClosed:
                log.info("gateway.gone kind=answer")

        fields = message.fields
        self._handle_call(fields["method"], message.blob, fields["counters"], answer)

    # Life

    def _supervise(self) -> None:
        backoff_s = BACKOFF_S_FIRST
        while not self._stopping.is_set():
            has_served = self._run_once()
            if self._stopping.is_set() or (self.restarts == 0 and not has_served):
                break
            self.restarts += 1
            backoff_s = BACKOFF_S_FIRST if has_served else min(2 * backoff_s, BACKOFF_S_MAX)
            log.error("gateway.died restart_in_s=%.1f", backoff_s)
            self._stopping.wait(backoff_s)
        self._ended.set()
        self._is_told.set()
        self._drained.put(False)

    def _run_once(self) -> bool:
        """Run one process until it ends; whether it ever served."""
        try:
            process, channel = self._spawn()
        except OSError as error:  # no process, descriptor or memory left
            log.error("gateway.not_started %s", error)
            self._started.put(Unavailable(f"the gateway process cannot be started: {error}"))
            return False
        has_served = False
        try:
            channel.send("start", blob=pickle.dumps(self._start))
            port, way = self._wait_listening(channel)
            has_served = True
            self._become(channel, port)
            self._on_listening(port, way)
            self._started.put(None)
            self._receive(channel)
        except ChannelClosed as closed:
            log.info("gateway.closed %s", closed)  # it ended, or was told to
        except ServeError as error:
            self._started.put(error)
        with self._lock:
            self._is_told.clear()
            self._channel = None
            waiting = list(self._waiting.values())
        channel.close()
        how = describe_exit(end_child(process))
        for done in waiting:
            done.put(GatewayGone(f"the gateway process ended: {how}"))
        if not has_served:
            self._started.put(Unavailable(f"the gateway process ended at its start: {how}"))
        return has_served

    def _spawn(self) -> tuple[Popen[bytes], Channel]:
        """A new process and its channel. Raises OSError."""
        channel, theirs = Channel.pair()
        with theirs:
            try:
                lines, their_lines = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with their_lines:
                    writer = threading.Thread(
                        target=write_lines, args=(lines,), name="gateway-log", daemon=True
                    )
                    writer.start()
                    fds = [theirs.fileno(), their_lines.fileno()]
                    self.process = start_child(MODULE, [*map(str, fds), str(os.getpid())], fds)
            except OSError:
                channel.close()
                raise
        return self.process, channel

    @staticmethod
    def _wait_listening(channel: Channel) -> tuple[int, LocalWay]:
        message = channel.receive(START_S_MAX)
        if message.kind != "listening":
            raise error_from_reason(*message.fields["error"])
        return int(message.fields["port"]), LocalWay(*message.fields["local"])

    def _become(self, channel: Channel, port: int) -> None:
        """Use the new process, and give it what the last one had. Raises ChannelClosed."""
        # Whoever asked for any free port gets the same one after a restart.
        settings = replace(self._start.settings, grpc_port=port)
        self._start = replace(self._start, settings=settings)
        with self._lock:
            if self._is_let_go:
                raise ChannelClosed("it is to end")
            self._channel = channel
            opened = dict(self._open)
            installed = self._installed
        for key, version in opened.items():
            fields, blob = _open_request(key, version)
            channel.send("open", {"serial": 0, **fields}, blob)
        if installed:
            channel.send("install", {"serial": 0, "models": installed})
        # It waits for answers, which this thread has to read.
        threading.Thread(target=_connect, args=(list(opened.values()),), daemon=True).start()
        if self._stopping.is_set():
            channel.send("stop")  # a drain began while there was nobody to be told
        self._is_told.set()


# Politely first: the gateway closes its listener and its connections.
END_S_MAX = 10.0


def _open_request(key: str, version: OpenedVersion) -> tuple[dict[str, Any], bytes]:
    # Downwards only: our own child reads what we wrote, nothing that came from outside.
    return {"key": key, "inline": version.inline}, pickle.dumps(version.manifest)


def _connect(versions: Sequence[OpenedVersion]) -> None:
    for version in versions:
        version.connect()
