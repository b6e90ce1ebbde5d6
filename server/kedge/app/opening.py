"""How a version comes to run: inline in the gateway, or in worker processes of its own.

Owns the worker processes; implements what the registry calls to open a version.
"""

from __future__ import annotations

import itertools
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kedge.app.placement import PlacementStore, inline_refusal
from kedge.control.gateway_process import GatewayProcess, OpenedVersion
from kedge.core.errors import LoadFailed, ServeError
from kedge.core.settings import INLINE_US_MAX, Placement
from kedge.core.values import ModelRef, VersionManifest
from kedge.workers.prober import Prober
from kedge.workers.supervisor import WorkerGroup, WorkerJob

log = logging.getLogger("kedge.app")

ReportHealth = Callable[[ModelRef, ServeError | None], None]


class Opener:
    """Opens versions in the gateway and starts the workers that they need.

    report_health(version, error or None): a version has no worker left that could be started, or
    has one again; called from any thread.
    """

    def __init__(
        self,
        gateway: GatewayProcess,
        report_health: ReportHealth,
        *,
        allow_model_code: bool,
        state_dir: Path,
    ) -> None:
        self._gateway = gateway
        self._report_health = report_health
        self._allow_model_code = allow_model_code
        self._state_dir = state_dir
        self._measured = PlacementStore(state_dir)
        self._prober = Prober()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._open: list[Opened] = []

    def __call__(self, manifest: VersionManifest) -> Opened:
        """Open a version and return when it is warm. Raises LoadFailed with the reason."""
        placement = manifest.execution.placement
        refusal = inline_refusal(manifest)
        if placement is Placement.INLINE:
            if refusal:
                raise LoadFailed(f"{manifest.path}: placement inline: {refusal}")
            return self._open_inline(manifest)
        if placement is Placement.WORKERS or refusal or self._batch_us(manifest) > INLINE_US_MAX:
            return self._open_workers(manifest)
        return self._open_inline(manifest)

    def _batch_us(self, manifest: VersionManifest) -> float:
        """How long a full batch takes, measured once per model and machine. Raises LoadFailed."""
        known = self._measured.find(manifest)
        if known is not None:
            return known
        self._gateway.preload()
        job = WorkerJob(manifest, "cpu", self._allow_model_code, self._state_dir)
        batch_us = self._prober.measure(job)
        self._measured.keep(manifest, batch_us)
        return batch_us

    def worker_lost(self, worker: int, hangs: bool) -> None:
        """The gateway lost a worker, or it runs a batch for too long: end it for good."""
        if hangs:
            log.warning("worker.hangs worker=%d killed", worker)
        with self._lock:
            opened = list(self._open)
        for one in opened:
            if one.group is not None:
                one.group.kill(worker)

    def worker_counters(self) -> list[dict[str, object]]:
        """Of every version that has workers: model, version, how many run, how often restarted."""
        with self._lock:
            opened = list(self._open)
        return [
            {
                "name": one.ref.name,
                "version": str(one.ref.version),
                "running": one.group.running,
                "restarts": one.group.restarts,
            }
            for one in opened
            if one.group is not None
        ]

    def _key(self, manifest: VersionManifest) -> str:
        return f"{manifest.ref}#{next(self._numbers)}"

    def _open_inline(self, manifest: VersionManifest) -> Opened:
        key = self._key(manifest)
        self._gateway.open(key, OpenedVersion(manifest, inline=True, connect=lambda: None))
        log.info("model.placed %s inline", manifest.ref)
        return self._opened(Opened(self, manifest.ref, key, None))

    def _open_workers(self, manifest: VersionManifest) -> Opened:
        key = self._key(manifest)
        jobs = [
            WorkerJob(manifest, device, self._allow_model_code, self._state_dir)
            for device in manifest.execution.devices
        ]
        report_health = partial(self._report_health, manifest.ref)
        group = WorkerGroup(jobs, _Events(self._gateway, key, report_health))
        self._gateway.open(key, OpenedVersion(manifest, inline=False, connect=group.connect))
        opened = self._opened(Opened(self, manifest.ref, key, group))
        try:
            group.start()
        except LoadFailed:
            opened.close()
            raise
        log.info("model.placed %s workers=%d", manifest.ref, len(jobs))
        return opened

    def _opened(self, opened: Opened) -> Opened:
        with self._lock:
            self._open.append(opened)
        return opened

    def close(self, opened: Opened) -> None:
        """See `Opened.close`."""
        with self._lock:
            if opened not in self._open:
                return
            self._open.remove(opened)
        self._gateway.close_version(opened.key)
        if opened.group is not None:
            opened.group.stop()

    def stop_workers(self) -> None:
        """End every worker process; the gateway is gone."""
        self._prober.close()
        with self._lock:
            opened, self._open = self._open, []
        groups = [one.group for one in opened if one.group is not None]
        for group in groups:
            group.end()  # all at once: one that hangs is given seconds
        for group in groups:
            group.stop()


class Opened:
    """Implements `core.values.Runtime`. key: its name in the gateway."""

    def __init__(self, opener: Opener, ref: ModelRef, key: str, group: WorkerGroup | None) -> None:
        self._opener = opener
        self.ref = ref
        self.key = key
        self.group = group

    def close(self) -> None:
        """Let what was accepted run, then end what ran it."""
        self._opener.close(self)


class _Events:
    """Implements `workers.supervisor.WorkerEvents`: passes what happens on to the gateway, and to
    `report_health` that the version has no worker, or one again.
    """

    def __init__(
        self, gateway: GatewayProcess, key: str, report_health: Callable[[ServeError | None], None]
    ) -> None:
        self._gateway = gateway
        self._key = key
        self._report_health = report_health

    def worker_loaded(self, worker: int, connection: socket.socket) -> None:
        self._gateway.attach(self._key, worker, connection)
        self._report_health(None)

    def worker_ended(self, worker: int, how: str) -> None:
        self._gateway.worker_ended(self._key, worker, how)

    def no_worker(self, error: ServeError) -> None:
        self._gateway.no_worker(self._key, error)
        self._report_health(error)
