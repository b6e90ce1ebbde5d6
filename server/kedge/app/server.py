"""The control process of a server, which is `kedge serve` itself: it starts and ends all others.

Owns the registry, answers every call that is no inference, writes the logs. The data path is in the
gateway process (`gateway.py`), models in the gateway or in workers (`opening.py`).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kedge.app.opening import Opened, Opener
from kedge.config.targets import find_targets
from kedge.control.gateway_process import GatewayProcess, GatewayStart
from kedge.control.http_process import HttpProcess
from kedge.control.rpc import COUNTED_METHODS, ControlRpc
from kedge.core.errors import ServeError, Unavailable
from kedge.core.ports import LocalWay
from kedge.core.settings import ServerSettings, StoreLimits
from kedge.core.sources import ModelSource
from kedge.core.values import Catalog, ModelRef, Runtime, ServedVersion
from kedge.front.auth import load_access
from kedge.models.registry import Registry
from kedge.models.repository import sources_of_repository
from kedge.process.logs import FORMAT
from kedge.store.models import ModelStore, OnProgress
from kedge.store.progress import ProgressLog
from kedge.store.uploads import Uploads

log = logging.getLogger("kedge.app")
# What the HTTP process may take to serve; it needs 0.5 to 1 s.
HTTP_READY_S_MAX = 30.0


def serve(settings: ServerSettings, on_progress: OnProgress | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the exit code.

    on_progress: told how far a model's download is; by default the log is.

    Raises ServeError or ValueError for targets and token files that cannot be read, OSError for a
    port that is taken.
    """
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    return _Server(settings, on_progress or ProgressLog()).run()


class _Server:
    """One server's life: start everything side by side, wait for the end, drain."""

    def __init__(self, settings: ServerSettings, on_progress: OnProgress) -> None:
        self._settings = settings
        for endpoint in find_targets(settings.targets).endpoints:
            # A mistake in an endpoint file ends the start: its author stands at the terminal. A bad
            # model in a repository is reported in the index, and the others serve.
            endpoint.manifests()
        self._needs_token = load_access(settings.token_file).needs_token
        # A pipe, because a signal handler may take no lock: it may interrupt whoever holds it.
        self._end_read, self._end_write = os.pipe()
        self._is_ending = False
        self._gateway = GatewayProcess(
            GatewayStart(settings, COUNTED_METHODS),
            self._handle_call,
            self._worker_lost,
            self._listening,
        )
        self._opener = Opener(
            self._gateway,
            self._report_health,
            allow_model_code=settings.allow_model_code,
            state_dir=settings.state_dir.absolute(),
        )
        files = ModelStore(
            settings.state_dir, StoreLimits(settings.model_cache_bytes_max), on_progress
        )
        uploads = Uploads(settings.state_dir, settings.allow_model_code)
        self._registry = Registry(self._sources, self._opener, self._install, files, uploads)
        self._process_counters: Mapping[str, object] = {}
        self._control = ControlRpc(
            self._registry, lambda: self._is_ending, lambda: self._process_counters
        )
        self._http: HttpProcess | None = None
        self._grpc_port = 0
        self._has_started = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        self._gateway.start()
        threading.Thread(target=self._start_models, name="start-models", daemon=True).start()
        os.read(self._end_read, 1)
        answered = self._gateway.drain(self._settings.drain_s_max)
        if self._http is not None:
            self._http.stop()
        # The gateway first: to close a version in it means to wait for what still runs.
        self._gateway.stop()
        self._opener.stop_workers()
        self._registry.close()
        if not answered:
            log.error("drain.timed_out drain_s_max=%s", self._settings.drain_s_max)
        return 0 if answered and self._has_started else 1

    def _listening(self, grpc_port: int, way: LocalWay) -> None:
        """The gateway can be called: let REST do so."""
        self._grpc_port = grpc_port
        if self._http is not None:
            self._http.reconnect(way)
            return
        settings = self._settings
        self._http = HttpProcess(
            way,
            settings.host,
            settings.http_port,
            settings.metrics_port,
            loopback_control=not self._needs_token,
        )
        self._http.start()

    def _stop(self) -> None:
        if self._http is not None:
            self._http.expect_end()
        self._is_ending = True
        os.write(self._end_write, b"x")

    def _start_models(self) -> None:
        """Load, wait for the HTTP process, say that the server is ready."""
        settings = self._settings
        assert self._http is not None
        try:
            self._registry.start(settings.model_control, settings.load_models, settings.poll_s)
            addresses = self._http.wait_ready(HTTP_READY_S_MAX)
            if addresses is None:
                raise Unavailable("the HTTP process did not start, its messages stand above")
        except ServeError as error:
            log.error("server.not_started: %s", error)
            self._stop()
            return
        self._has_started = True
        print(  # noqa: T201 - the ready line is the interface
            f"ready grpc={settings.host}:{self._grpc_port} "
            f"http={addresses.http} metrics={addresses.metrics}",
            flush=True,
        )

    def _sources(self) -> Sequence[ModelSource]:
        """Read anew at every poll, so that models and endpoint files may come and go."""
        targets = find_targets(self._settings.targets)
        found: list[ModelSource] = list(targets.endpoints)
        for repository in targets.repositories:
            found += sources_of_repository(repository)
        return found

    def _install(self, catalog: Catalog[Runtime]) -> None:
        self._gateway.install(
            {
                name: {number: _key_of(served) for number, served in versions.items()}
                for name, versions in catalog.models.items()
            }
        )

    def _worker_lost(self, worker: int, hangs: bool) -> None:
        self._opener.worker_lost(worker, hangs)

    def _report_health(self, ref: ModelRef, error: ServeError | None) -> None:
        self._registry.report_health(ref, error)

    def _handle_call(
        self,
        method: int,
        payload: bytes,
        counters: Mapping[str, Any],
        answer: Callable[[bytes | ServeError], None],
    ) -> None:
        """One call that is no inference, with what the gateway has counted if it asks for that."""
        if counters:
            self._process_counters = {
                **counters["process"],
                "gateway_restarts": self._gateway.restarts,
                "workers": self._opener.worker_counters(),
            }
            for served in self._registry.catalog.versions():
                values = counters["versions"].get(_key_of(served))
                if values is not None:
                    served.statistics.take_over(values)
        self._control.handle(method, payload, answer)


def _key_of(served: ServedVersion[Runtime]) -> str:
    assert isinstance(served.executor, Opened), "everything here was opened by the opener"
    return served.executor.key
