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
from kedge.core.errors import LoadFailed
from kedge.core.settings import ServerSettings
from kedge.core.sources import ModelSource
from kedge.core.values import VersionManifest
from kedge.front.auth import load_access
from kedge.front.native import NativeFront
from kedge.models.registry import Registry
from kedge.models.repository import sources_of_repository
from kedge.proto import INFERENCE_SERVICE

if TYPE_CHECKING:
    from kedge.core.ports import Executor

log = logging.getLogger("kedge.app")
INFER = INFERENCE_SERVICE + "ModelInfer"
# What the HTTP process may take to serve; it needs 0.5 to 1 s.
HTTP_READY_S_MAX = 30.0


def serve(settings: ServerSettings) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the exit code.

    Raises ServeError or ValueError for targets and token files that cannot be read, OSError for a
    port that is taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # One thread per operator: the gateway's own threads need the other cores, and with two intra-op
    # threads on two cores small models ran 20 times slower. Read once, when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return _Server(settings).run()


class _Server:
    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._endpoints = find_targets(settings.targets).endpoints
        for endpoint in self._endpoints:
            endpoint.manifests()
        self._access = load_access(settings.token_file)
        self._front = NativeFront(
            settings.host, settings.grpc_port, INFER, _methods(), self._access
        )
        self._http = HttpProcess(
            f"{_reachable(settings.host)}:{self._front.port}",
            settings.host,
            settings.http_port,
            settings.metrics_port,
            loopback_control=not self._access.needs_token,
        )
        self._failed_to_start = False

    def run(self) -> int:
        # Side by side, as all three take long: the HTTP process starts on another core, torch is read
        # from disk by a thread, and this thread imports numba and loads the kernels.
        self._http.start()
        threading.Thread(target=_import_torch, name="import-torch", daemon=True).start()
        from kedge_kernels import warm  # noqa: PLC0415

        from kedge.pipeline.serve import Gateway  # noqa: PLC0415

        warm()
        registry = Registry(
            sources=self._sources,
            make_executor=self._make_executor,
            on_change=lambda catalog: gateway.install(catalog),
        )
        control = ControlRpc(
            registry,
            is_draining=lambda: gateway.draining,
            process_counters=lambda: {
                "pid": os.getpid(),
                "version": __version__,
                "refused": gateway.refused,
                "queue_bytes": gateway.queue_bytes,
            },
        )
        gateway = Gateway(
            self._front, control.handle, SystemClock(), self._settings.queue_bytes_max
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: gateway.stop())
        self._front.start()
        starter = threading.Thread(
            target=self._start_models, args=(registry, gateway.stop), name="start", daemon=True
        )
        starter.start()
        answered = gateway.run(self._settings.drain_s_max)
        self._http.stop()
        self._front.close()
        if not answered:
            log.error("drain.timed_out drain_s_max=%s", self._settings.drain_s_max)
        return 0 if answered and not self._failed_to_start else 1

    def _sources(self) -> Sequence[ModelSource]:
        """Read anew at every poll, so that models and endpoint files may come and go."""
        targets = find_targets(self._settings.targets)
        found: list[ModelSource] = list(targets.endpoints)
        for repository in targets.repositories:
            found += sources_of_repository(repository)
        return found

    def _make_executor(self, manifest: VersionManifest) -> Executor:
        from kedge.executors.torchscript import TorchScriptExecutor  # noqa: PLC0415 - torch: 2 s

        if manifest.platform != "pytorch_libtorch":
            raise LoadFailed(f"{manifest.ref}: platform {manifest.platform} is not in this version")
        return TorchScriptExecutor(manifest)

    def _start_models(self, registry: Registry, stop: object) -> None:
        registry.start(self._settings.model_control, self._settings.load_models)
        addresses = self._http.wait_ready(HTTP_READY_S_MAX)
        if addresses is None:
            log.error("http_process.failed see its messages above")
            self._failed_to_start = True
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # What exists now lives as long as the process: keep the collector from walking it again.
        gc.collect()
        gc.freeze()
        print(  # noqa: T201 - the ready line is the interface
            f"ready grpc={self._settings.host}:{self._front.port} "
            f"http={addresses.http} metrics={addresses.metrics}",
            flush=True,
        )


def _methods() -> dict[str, frozenset[str]]:
    return {path: roles for path, roles in ROLES_OF.items() if path != INFER}


def _reachable(host: str) -> str:
    """Where a process on this machine finds a listener on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104


def _import_torch() -> None:
    import torch  # noqa: F401, PLC0415
