"""Where the event loop of a grpcio front and the gateway's threads meet: call ids, answers, bounds.

Requests go one way through the inbox, answers come back here. Not here: gRPC (`gate.py`,
`streams.py`) and threads (`loop_thread.py`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque

from kedge.core.errors import QueueFull, ServeError
from kedge.front.inbox import Inbox

Answer = bytes | ServeError
Asked = asyncio.Future[Answer]


class Slots:
    """How many calls of one kind may be open; `kind` names them in the refusal."""

    def __init__(self, kind: str, calls_max: int) -> None:
        self._kind = kind
        self._calls_max = calls_max
        self.calls = 0

    def take(self) -> None:
        """Raises QueueFull."""
        if self.calls >= self._calls_max:
            raise QueueFull(f"{self.calls} {self._kind} are open, the limit is {self._calls_max}")
        self.calls += 1

    def free(self, calls: int = 1) -> None:
        """Give some back."""
        self.calls -= calls


class Exchange:
    """Every method but `settle` belongs to the loop's thread; a closed front settles nothing.

    ended: resolves when the front closes, with what its open calls are refused with.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, inbox: Inbox, first_id: int = 1) -> None:
        self._loop = loop
        self._inbox = inbox
        self._ids = itertools.count(first_id)
        self._asked: dict[int, Asked] = {}
        self._answers: deque[tuple[Asked, Answer]] = deque()
        self._is_delivering = False
        self.ended: asyncio.Future[ServeError] = loop.create_future()

    def post(self, method: int, payload: bytes) -> tuple[int, Asked]:
        """Hand a call to the gateway; its id, and a future of the answer that is never cancelled.

        Raises QueueFull when the inbox is full.
        """
        call_id = next(self._ids)
        asked = self._asked[call_id] = self._loop.create_future()
        try:
            self._inbox.put(call_id, method, payload)
        except QueueFull:
            del self._asked[call_id]
            raise
        return call_id, asked

    async def ask(self, method: int, payload: bytes) -> Answer:
        """The answer to one call. Cancelled with its task: then the gateway is told."""
        try:
            call_id, asked = self.post(method, payload)
        except QueueFull as error:
            return error
        try:
            return await asked
        except asyncio.CancelledError:
            self.abandon(call_id)
            raise

    def abandon(self, call_id: int) -> None:
        """Nobody waits for this call any more."""
        if self._asked.pop(call_id, None) is not None:
            self._inbox.cancel(call_id)

    def settle(self, call_id: int, answer: Answer) -> bool:
        """From any thread: what the call's future resolves to. False if nobody waits for it."""
        asked = self._asked.pop(call_id, None)
        if asked is None:
            return False
        self._answers.append((asked, answer))
        # A wake-up is a system call; a batch of answers needs one. The flag falls before the queue
        # is emptied, so that an answer which comes in between wakes the loop once too often.
        if not self._is_delivering:
            self._is_delivering = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop was closed meanwhile
                return False
        return True

    def end(self, error: ServeError) -> None:
        """Deliver what was answered, and `error` to everyone else."""
        self._deliver()
        self.ended.set_result(error)
        while self._asked:
            _, asked = self._asked.popitem()
            if not asked.done():
                asked.set_result(error)

    def _deliver(self) -> None:
        self._is_delivering = False
        while self._answers:
            asked, answer = self._answers.popleft()
            if not asked.done():
                asked.set_result(answer)
