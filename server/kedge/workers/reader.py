"""The thread of a gateway that reads what workers answer and notices those that hang or end.

One for all workers of the process: it sleeps until a socket has something.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable

from kedge.core.errors import ServeError
from kedge.core.ports import Clock
from kedge.workers.pool import WorkerPool
from kedge.workers.slots import Link, LinkBroken

log = logging.getLogger("kedge.workers")

# Hung workers are found this much after their time; execute timeouts are seconds.
CHECK_S = 0.05
# How long the batches of a worker that ended wait to learn how, before they fail without that.
REASON_NS_MAX = 1_000_000_000

# (worker, whether it hangs): asks whoever started it to end it, or to say how it ended.
OnLost = Callable[[int, bool], None]


class Reader:
    """Reads the links of all pools. on_lost: see `OnLost`; called once per worker."""

    def __init__(self, clock: Clock, on_lost: OnLost) -> None:
        self._clock = clock
        self._on_lost = on_lost
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._links: dict[int, tuple[WorkerPool, Link]] = {}
        self._ending: dict[int, tuple[WorkerPool, Link, int]] = {}
        self._thread = threading.Thread(target=self._run, name="worker-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, pool: WorkerPool, link: Link) -> None:
        """Read a link that was just attached to `pool`."""
        with self._lock:
            self._links[link.fileno()] = (pool, link)
        self._epoll.register(link.fileno(), select.EPOLLIN)

    def ended(self, worker: int, how: str) -> None:
        """A worker's process is gone; the batches that it ran fail with `how`."""
        with self._lock:
            found = self._ending.pop(worker, None)
            if found is None:
                links = self._links.items()
                fds = [fd for fd, (_, link) in links if link.worker == worker]
                if not fds:
                    return
                pool, link = self._links.pop(fds[0])
            else:
                pool, link, _ = found
        pool.drop(link, pool.ended(how))
        link.close()

    def forget(self, pool: WorkerPool) -> None:
        """A pool is about to close its links."""
        with self._lock:
            gone = [fd for fd, (owner, _) in self._links.items() if owner is pool]
            for fd in gone:
                self._epoll.unregister(fd)
                del self._links[fd]

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll(CHECK_S):
                self._read(fd)
            self._check()

    def _read(self, fd: int) -> None:
        with self._lock:
            found = self._links.get(fd)
        if found is None:
            return
        pool, link = found
        try:
            answers = link.receive(self._clock.now_ns())
        except LinkBroken as broken:
            log.info("worker.broken %r %s", link, broken)
            self._lose(fd, hangs=False)
            return
        try:
            pool.receive(answers)
        except Exception:
            log.exception("worker.answer_failed %r", link)

    def _lose(self, fd: int, *, hangs: bool) -> None:
        """Stop reading a worker; what it ran fails when it is known how it ended."""
        with self._lock:
            pool, link = self._links.pop(fd)
            self._epoll.unregister(fd)
            link.is_broken = True
            deadline_ns = self._clock.now_ns() + REASON_NS_MAX
            if not hangs:
                self._ending[link.worker] = (pool, link, deadline_ns)
        if hangs:
            error: ServeError = pool.timed_out()
            pool.drop(link, error)
            link.close()
        self._on_lost(link.worker, hangs)

    def _check(self) -> None:
        now_ns = self._clock.now_ns()
        with self._lock:
            pools = {id(pool): pool for pool, _ in self._links.values()}
            silent = [
                worker for worker, (_, _, until_ns) in self._ending.items() if now_ns > until_ns
            ]
        for pool in pools.values():
            for link in pool.overdue(now_ns):
                if not link.is_broken:
                    self._lose(link.fileno(), hangs=True)
        for worker in silent:
            self.ended(worker, "its socket closed")
