"""The thread of a gateway that reads what workers answer and notices those that hang or end.

One for all workers of the process: it sleeps until a socket has something.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable

from kedge.core.ports import Clock
from kedge.workers.pool import WorkerPool
from kedge.workers.slots import Link, LinkBroken

log = logging.getLogger("kedge.workers")

# Hung workers are found this much after their time; execute timeouts are seconds.
CHECK_S = 0.05
CHECK_NS = 50_000_000
# How long the batches of a worker that ended wait to learn how, before they fail without that.
REASON_NS_MAX = 1_000_000_000

# (worker, whether it hangs): asks whoever started it to end it, or to say how it ended.
OnLost = Callable[[int, bool], None]


class Reader:
    """Reads the links of all pools. on_lost: see `OnLost`; called once per link."""

    def __init__(self, clock: Clock, on_lost: OnLost) -> None:
        self._clock = clock
        self._on_lost = on_lost
        self._epoll = select.epoll()
        # Held while a socket is read, and by whoever takes a link out before it is closed: none is
        # read under a number that may be another's by then.
        self._lock = threading.Lock()
        self._links: dict[int, tuple[WorkerPool, Link]] = {}
        self._ending: list[tuple[WorkerPool, Link, int]] = []
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
            found = [one for one in self._links.values() if one[1].worker == worker]
            for _, link in found:
                self._take_out(link)
            found += [(pool, link) for pool, link, _ in self._ending if link.worker == worker]
            self._ending = [one for one in self._ending if one[1].worker != worker]
        for pool, link in found:
            pool.drop(link, pool.ended(how))
            link.close()

    def forget(self, pool: WorkerPool) -> None:
        """A pool is about to close its links."""
        with self._lock:
            for owner, link in list(self._links.values()):
                if owner is pool:
                    self._take_out(link)

    def _take_out(self, link: Link) -> None:
        """Read `link` no more; under the lock."""
        del self._links[link.fileno()]
        self._epoll.unregister(link.fileno())

    def _run(self) -> None:
        next_check_ns = 0
        while True:
            try:
                for fd, _ in self._epoll.poll(CHECK_S):
                    self._read(fd)
                if (now_ns := self._clock.now_ns()) >= next_check_ns:
                    next_check_ns = now_ns + CHECK_NS
                    self._check(now_ns)
            except Exception:
                # A bug of ours, or the control process is gone; all other workers are read on.
                log.exception("worker.read_failed")

    def _read(self, fd: int) -> None:
        now_ns = self._clock.now_ns()
        with self._lock:
            found = self._links.get(fd)
            if found is None:
                return  # it was taken out since the poll
            pool, link = found
            broken = ""
            try:
                answers = link.receive(now_ns)
            except LinkBroken as error:
                # Not the error: with its traceback it would keep the link's memory for a long time.
                broken = repr(error)
                self._take_out(link)
                link.is_broken = True
                # What it ran fails when it is known how it ended.
                self._ending.append((pool, link, now_ns + REASON_NS_MAX))
        if broken:
            log.info("worker.broken %r %s", link, broken)
            self._on_lost(link.worker, False)
        else:
            pool.receive(answers)

    def _check(self, now_ns: int) -> None:
        with self._lock:
            pools = {id(pool): pool for pool, _ in self._links.values()}
            silent = [link.worker for _, link, until_ns in self._ending if now_ns > until_ns]
        for pool in pools.values():
            for link in pool.overdue(now_ns):
                self._end_hung(pool, link)
        for worker in silent:
            self.ended(worker, "its socket closed")

    def _end_hung(self, pool: WorkerPool, link: Link) -> None:
        with self._lock:
            if self._links.get(link.fileno()) != (pool, link):
                return  # it ended since it was found
            self._take_out(link)
        pool.drop(link, pool.timed_out())
        link.close()
        self._on_lost(link.worker, True)
