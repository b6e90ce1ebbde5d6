"""The model repository as the server controls it: start, load, unload, poll, index.

Implements `core.ports.ModelControl`. Loads run one after another on a thread of their own, never on
the serving thread. What a load does is in `loader.py`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kedge.core.errors import (
    Internal,
    RepositoryFailed,
    ServeError,
    ShuttingDown,
    Unavailable,
)
from kedge.core.ports import ModelFiles, UploadedFiles
from kedge.core.settings import UPLOAD_BYTES_MAX
from kedge.core.sources import ModelSource
from kedge.core.values import Catalog, IndexEntry, ModelRef, Runtime, ServedVersion, VersionState
from kedge.models.loader import Change, Loader, OpenVersion
from kedge.models.overrides import Override, Overrides
from kedge.models.parameters import ByteBudget, load_parameters
from kedge.models.repository import RepositoryModel
from kedge.models.states import StateTable

log = logging.getLogger("kedge.models")

# Each waiting load holds a caller; whoever sends more at once does not wait for the answers.
CHANGES_WAITING_MAX = 64
ALL_MODELS = "*"
# Triton's --repository-poll-secs.
POLL_S = 15.0

OnDone = Callable[[ServeError | None], None]


class _Job(NamedTuple):
    change: Callable[[], Change]
    on_done: OnDone


class Registry:
    """What is loaded, and how that changes.

    sources: the models of all targets; called whenever they may have changed, so that new ones are
    found. open_version, on_change, files: see `Loader`. uploads: where files go that load calls
    bring; a model need not be in a target then.
    """

    def __init__(
        self,
        sources: Callable[[], Sequence[ModelSource]],
        open_version: OpenVersion,
        on_change: Callable[[Catalog[Runtime]], None],
        files: ModelFiles,
        uploads: UploadedFiles,
    ) -> None:
        self._sources = sources
        self._states = StateTable()
        self._loader = Loader(open_version, on_change, self._states, files)
        self._uploads = uploads
        self._uploads_waiting = ByteBudget(UPLOAD_BYTES_MAX)
        self._names: frozenset[str] = frozenset()
        self._overrides = Overrides(uploads)
        self._is_explicit = False
        self._poll_s: float | None = None
        self._started = False
        self._closing = False
        self._jobs: queue.Queue[_Job | None] = queue.Queue(CHANGES_WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="kedge-loader", daemon=True)

    # ModelControl

    @property
    def catalog(self) -> Catalog[Runtime]:
        return self._loader.catalog

    @property
    def ready(self) -> bool:
        """Strict readiness: started, nothing loads, and nothing failed that does not serve."""
        return self._started and self._states.ready

    def index(self) -> Sequence[IndexEntry]:
        """One entry per version, and one per model that was never loaded.

        Of the targets as they were last read: at start, poll or load, never on the calling thread.
        """
        return self._states.index(self._names)

    def load(self, name: str, parameters: Mapping[str, object], on_done: OnDone) -> None:
        """Load `name`, or again what changed of it.

        parameters: `config`, a ModelConfig as JSON, and with it `file:PATH`, the bytes of the files
        of the model's directory, which then come from the call alone.
        """
        try:
            self._require_explicit()
            config, files = load_parameters(parameters)
            if files:
                self._uploads.check(name, files)
            nbytes = self._uploads_waiting.take(sum(map(len, files.values())))
        except ServeError as error:
            on_done(error)
            return

        def done(error: ServeError | None) -> None:
            self._uploads_waiting.give_back(nbytes)
            on_done(error)

        self._submit(lambda: self._load(name, config, files), done)

    def unload(self, name: str, on_done: OnDone) -> None:
        """Take `name` out. Done when no new request reaches it; what is accepted still runs."""
        try:
            self._require_explicit()
        except ServeError as error:
            on_done(error)
            return
        self._submit(lambda: self._unload(name), on_done)

    def is_serving(self, ref: ModelRef) -> bool:
        """Whether requests for a version of the catalog are answered, and not all refused."""
        return self._states.is_serving(ref)

    def report_health(self, ref: ModelRef, error: ServeError | None) -> None:
        """What runs a version is gone and cannot be started (`error`), or runs again (None)."""
        if ref.version not in self.catalog.models.get(ref.name, {}):
            return  # it is only being loaded, and the load says how that went
        state = VersionState.READY if error is None else VersionState.UNAVAILABLE
        self._states.mark(ref, state, str(error or ""))

    def _require_explicit(self) -> None:
        if not self._is_explicit:
            # Triton's text in both other modes, which its clients know.
            raise Unavailable("explicit model load / unload is not allowed if polling is enabled")

    # Life

    def start(self, model_control: str, load_models: Sequence[str], poll_s: float = POLL_S) -> None:
        """Load on the calling thread, then take loads and unloads.

        model_control: `none` and `poll` load all models, `explicit` those in `load_models`, where
        `*` stands for all; `poll` reads the targets again every `poll_s`. A model that fails is
        reported in the index, and the others serve. Raises RepositoryFailed when the targets
        cannot be read.
        """
        self._is_explicit = model_control == "explicit"
        self._poll_s = poll_s if model_control == "poll" else None
        sources = self._read_sources()
        takes_all = not self._is_explicit or ALL_MODELS in load_models
        for name in sources if takes_all else load_models:
            self._refresh(name, sources.get(name, []))
        self._started = True
        self._thread.start()

    def poll_once(self, on_done: OnDone) -> None:
        """Load what is new or changed in the targets, unload what is gone."""
        self._submit(self._poll, on_done)

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread and close all executors. A load in progress is given `timeout_s`."""
        if self._closing:
            return
        self._closing = True
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._jobs.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
        for served in self.catalog.versions():
            served.executor.close()
        self._overrides.close()

    # The loader thread

    def _submit(self, change: Callable[[], Change], on_done: OnDone) -> None:
        if self._closing:
            on_done(ShuttingDown())
            return
        try:
            self._jobs.put_nowait(_Job(change, on_done))
        except queue.Full:
            on_done(Unavailable(f"{CHANGES_WAITING_MAX} loads and unloads wait already; try later"))

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._poll_s)
            except queue.Empty:
                job = _Job(self._poll, _log_failure)
            if job is None:
                return
            if self._closing:
                job.on_done(ShuttingDown())
                continue
            self._perform(job)
            del job  # with the files that it may have brought, before the next one comes

    def _perform(self, job: _Job) -> None:
        try:
            change = job.change()
        except ServeError as error:
            change = Change(error=error)
        except Exception:
            log.exception("model.change_failed")
            change = Change(error=Internal())
        try:
            # Answered before the old executors close: that may wait for what they still run.
            job.on_done(change.error)
            self._loader.close(change.retired)
            self._overrides.remove_unused(self.catalog.versions())
        except Exception:
            log.exception("model.close_failed")

    def _poll(self) -> Change:
        sources = self._read_sources()
        retired: list[ServedVersion[Runtime]] = []
        for name, named in sources.items():
            retired += self._refresh(name, named).retired
        for name in self._states.names() - sources.keys():
            gone = self._loader.unload(name).retired
            if not gone:
                self._states.forget(name)
            retired += gone
        return Change(tuple(retired))

    def _refresh(self, name: str, named: Sequence[ModelSource]) -> Change:
        """Load what changed of one model; a problem is reported in the index only."""
        try:
            manifests = _only(name, named).manifests(None)
        except Exception as error:
            is_ours = isinstance(error, ServeError)
            reason = str(error) if is_ours else repr(error)
            log.warning("model.unusable %s: %s", name, reason, exc_info=not is_ours)
            self._states.mark_broken(name, reason)
            return Change()
        return self._loader.load(name, manifests, retry=False)

    def _load(self, name: str, config: str | None, files: Mapping[str, bytes]) -> Change:
        override = self._overrides.for_load(name, config, files)
        try:
            manifests = self._source(name, override).manifests(
                override.config if override else None
            )
        except RepositoryFailed as error:
            raise RepositoryFailed(
                f"failed to load '{name}', failed to poll from model repository: {error}"
            ) from error
        change = self._loader.load(name, manifests, retry=True)
        if change.error is None:
            self._overrides.keep(name, override)
        return change

    def _source(self, name: str, override: Override | None) -> ModelSource:
        """The files that a load call brought, else the target that has `name`."""
        if override is not None and override.folder is not None:
            return RepositoryModel(override.folder)
        return _only(name, self._read_sources().get(name, []))

    def _unload(self, name: str) -> Change:
        self._overrides.forget(name)
        return self._loader.unload(name)

    def _read_sources(self) -> dict[str, list[ModelSource]]:
        named: dict[str, list[ModelSource]] = {}
        for source in self._sources():
            named.setdefault(source.name, []).append(source)
        self._names = frozenset(named)
        return named


def _only(name: str, named: Sequence[ModelSource]) -> ModelSource:
    if not named:
        raise RepositoryFailed(f"no target has a model '{name}'")
    if len(named) > 1:
        raise RepositoryFailed(f"model '{name}' appears in two or more repositories")
    return named[0]


def _log_failure(error: ServeError | None) -> None:
    if error is not None:
        log.warning("models.poll_failed %s", error)
