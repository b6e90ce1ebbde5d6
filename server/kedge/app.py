"""The only file that knows every part: builds them, joins them, starts and drains the server."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kedge import __version__
from kedge.config.targets import find_targets
from kedge.control.http_process import HttpProcess
from kedge.control.rpc import ROLES_OF, ControlRpc
from kedge.core.clock import SystemClock
from kedge.core.errors import ServeError, Unavailable
from kedge.core.ports import Executor
from kedge.core.settings import ServerSettings, StoreLimits
from kedge.core.sources import ModelSource
from kedge.core.values import Catalog, VersionManifest
from kedge.front.auth import Access, load_access
from kedge.front.native import NativeFront
from kedge.models.registry import Registry
from kedge.models.repository import sources_of_repository
from kedge.proto import INFERENCE_SERVICE
from kedge.store.models import ModelStore, OnProgress
from kedge.store.progress import ProgressLog
from kedge.store.uploads import Uploads

if TYPE_CHECKING:
    from kedge.pipeline.serve import Gateway

log = logging.getLogger("kedge.app")
INFER = INFERENCE_SERVICE + "ModelInfer"
# What the HTTP process may take to serve; it needs 0.5 to 1 s.
HTTP_READY_S_MAX = 30.0


def serve(settings: ServerSettings, on_progress: OnProgress | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the exit code.

    on_progress: told how far a model's download is; by default the log is.

    Raises ServeError or ValueError for targets and token files that cannot be read, OSError for a
    port that is taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # One thread per operator: the gateway's own threads need the other cores, and with two intra-op
    # threads on two cores small models ran 20 times slower. Read once, when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return _Server(settings, on_progress or ProgressLog()).run()


class _Server:
    """One server's life: listen, start everything side by side, serve on this thread, drain."""

    def __init__(self, settings: ServerSettings, on_progress: OnProgress) -> None:
        self._settings = settings
        for endpoint in find_targets(settings.targets).endpoints:
            # A mistake in an endpoint file ends the start: its author stands at the terminal. A bad
            # model in a repository is reported in the index, and the others serve.
            endpoint.manifests()
        access = load_access(settings.token_file)
        self._front = _listen(settings, access)
        self._http = HttpProcess(
            f"{_reachable(settings.host)}:{self._front.port}",
            settings.host,
            settings.http_port,
            settings.metrics_port,
            loopback_control=not access.needs_token,
        )
        files = ModelStore(
            settings.state_dir, StoreLimits(settings.model_cache_bytes_max), on_progress
        )
        uploads = Uploads(settings.state_dir, settings.allow_model_code)
        self._registry = Registry(self._sources, _make_executor, self._install, files, uploads)
        self._control = ControlRpc(
            self._registry, lambda: self._gateway.draining, self._process_counters
        )
        self._gateway: Gateway
        self._has_started = False

    def run(self) -> int:
        # Side by side, as each takes long: the HTTP process on another core, torch on a thread that
        # mostly reads from disk, numba and the kernels on this one.
        self._http.start()
        threading.Thread(target=_import_executors, name="import-executors", daemon=True).start()
        from kedge.pipeline.serve import Gateway  # noqa: PLC0415
        from kedge_kernels.codec import warm  # noqa: PLC0415

        warm()
        self._gateway = Gateway(
            self._front, self._control.handle, SystemClock(), self._settings.queue_bytes_max
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        self._front.start()
        threading.Thread(target=self._start_models, name="start-models", daemon=True).start()
        answered = self._gateway.run(self._settings.drain_s_max)
        self._http.stop()
        self._front.close()
        self._registry.close()
        if not answered:
            log.error("drain.timed_out drain_s_max=%s", self._settings.drain_s_max)
        return 0 if answered and self._has_started else 1

    def _stop(self) -> None:
        self._http.expect_end()
        self._gateway.stop()

    def _start_models(self) -> None:
        """Load, wait for the HTTP process, say that the server is ready."""
        settings = self._settings
        try:
            self._registry.start(settings.model_control, settings.load_models, settings.poll_s)
            addresses = self._http.wait_ready(HTTP_READY_S_MAX)
            if addresses is None:
                raise Unavailable("the HTTP process did not start, its messages stand above")
        except ServeError as error:
            log.error("server.not_started: %s", error)
            self._gateway.stop()
            return
        # What exists now lives as long as the process: spare the collector from walking it again.
        gc.collect()
        gc.freeze()
        self._has_started = True
        print(  # noqa: T201 - the ready line is the interface
            f"ready grpc={settings.host}:{self._front.port} "
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

    def _install(self, catalog: Catalog) -> None:
        self._gateway.install(catalog)

    def _process_counters(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "version": __version__,
            "refused": self._gateway.refused,
            "queue_bytes": self._gateway.queue_bytes,
        }


def _listen(settings: ServerSettings, access: Access) -> NativeFront:
    try:
        return NativeFront(settings.host, settings.grpc_port, INFER, ROLES_OF, access)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {settings.host}:{settings.grpc_port} for gRPC: {error}; choose "
            "another --grpc-port (0: any free one) or --host"
        ) from None


def _make_executor(manifest: VersionManifest) -> Executor:
    from kedge.executors.torchscript import TorchScriptExecutor  # noqa: PLC0415 - torch: 2 s

    return TorchScriptExecutor(manifest)


def _reachable(host: str) -> str:
    """Where a process on this machine finds a listener on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104


def _import_executors() -> None:
    import kedge.executors.torchscript  # noqa: F401, PLC0415 - torch: 2 s
