"""What a gateway serves, as the control process tells it: open, attach, install, close."""

from __future__ import annotations

import logging
import pickle
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kedge.core.errors import Internal, ServeError, Unavailable
from kedge.core.ports import Clock, Executor
from kedge.core.values import Catalog, ServedVersion, VersionManifest
from kedge.process.channel import Channel, Message
from kedge.workers.pool import WorkerPool
from kedge.workers.reader import Reader

if TYPE_CHECKING:
    from kedge.pipeline.serve import Gateway

log = logging.getLogger("kedge.gateway")

# How often a version that was taken out is looked at, until what it accepted has run.
CLOSE_POLL_S = 0.02
CLOSE_S_MAX = 50.0


class Versions:
    """The versions that are open, by key. Messages are taken one after another on a thread of their
    own, so that a large model that loads here delays neither requests nor answers.
    """

    def __init__(self, channel: Channel, gateway: Gateway, reader: Reader, clock: Clock) -> None:
        self._channel = channel
        self._gateway = gateway
        self._reader = reader
        self._clock = clock
        self._open: dict[str, ServedVersion[Executor]] = {}
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._handlers: dict[str, Callable[[Message], None]] = {
            "preload": self._on_preload,
            "open": self._on_open,
            "attach": self._on_attach,
            "worker_ended": self._on_worker_ended,
            "no_worker": self._on_no_worker,
            "install": self._on_install,
        }
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, message: Message) -> None:
        """Do what `message` says, after those before it."""
        self._messages.put(message)

    def statistics(self) -> dict[str, Any]:
        """What every version has counted, by key, as JSON values."""
        return {key: asdict(version.statistics) for key, version in list(self._open.items())}

    def close(self) -> None:
        """Let go of every worker; they end when they see it."""
        for version in list(self._open.values()):
            self._close(version.executor)

    def _run(self) -> None:
        while True:
            message = self._messages.get()
            if message.kind == "close":
                # It waits for what still runs, and other changes must not wait for it.
                closing = threading.Thread(
                    target=self._perform, args=(message, self._on_close), daemon=True
                )
                closing.start()
            else:
                self._perform(message, self._handlers[message.kind])

    def _perform(self, message: Message, handler: Callable[[Message], None]) -> None:
        error: ServeError | None = None
        try:
            handler(message)
        except ServeError as failed:
            error = failed
        except Exception:
            log.exception("gateway.change_failed kind=%s", message.kind)
            error = Internal()
        if "serial" in message.fields:
            reason = None if error is None else str(error)
            self._channel.send("done", {"serial": message.fields["serial"], "error": reason})

    def _on_preload(self, message: Message) -> None:
        threading.Thread(target=_import_executors, daemon=True).start()

    def _on_open(self, message: Message) -> None:
        key = message.fields["key"]
        if key in self._open:
            return  # whoever asked waited for this process, which was told of it at its start
        # From our own parent; nothing that a client or a model sent is in it.
        manifest: VersionManifest = pickle.loads(message.blob)  # noqa: S301
        if message.fields["inline"]:
            from kedge.executors.make import make_executor  # noqa: PLC0415 - torch: 2 s

            executor: Executor = make_executor(manifest, allow_model_code=False)
        else:
            executor = WorkerPool(manifest, self._clock, self._gateway.dispatch)
        self._open[key] = ServedVersion(manifest, executor)

    def _pool(self, message: Message) -> WorkerPool | None:
        version = self._open.get(message.fields["key"])
        executor = version.executor if version else None
        return executor if isinstance(executor, WorkerPool) else None

    def _on_attach(self, message: Message) -> None:
        connection = socket.socket(fileno=message.fds[0])
        pool = self._pool(message)
        if pool is None:
            connection.close()  # the version was closed meanwhile
            return
        self._reader.add(pool, pool.attach(connection, message.fields["worker"]))

    def _on_worker_ended(self, message: Message) -> None:
        self._reader.ended(message.fields["worker"], message.fields["how"])

    def _on_no_worker(self, message: Message) -> None:
        pool = self._pool(message)
        if pool is not None:
            pool.set_down(Unavailable(message.fields["reason"]))

    def _on_install(self, message: Message) -> None:
        models = message.fields["models"]
        known = dict(self._open)
        self._gateway.install(
            Catalog(
                {
                    name: {
                        int(number): known[key] for number, key in versions.items() if key in known
                    }
                    for name, versions in models.items()
                }
            )
        )
        missing = {key for versions in models.values() for key in versions.values()} - known.keys()
        if missing:  # one that failed to open again after a restart; the others serve
            log.error("gateway.not_open %s", ", ".join(sorted(missing)))

    def _on_close(self, message: Message) -> None:
        version = self._open.get(message.fields["key"])
        if version is None:
            return
        until_s = time.monotonic() + CLOSE_S_MAX
        while self._gateway.is_busy_with(version) and time.monotonic() < until_s:
            time.sleep(CLOSE_POLL_S)
        del self._open[message.fields["key"]]
        self._close(version.executor)

    def _close(self, executor: Executor) -> None:
        if isinstance(executor, WorkerPool):
            self._reader.forget(executor)
        executor.close()


def _import_executors() -> None:
    import kedge.executors.make  # noqa: F401, PLC0415 - torch: 2 s
