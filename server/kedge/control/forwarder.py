"""The gateway's side of calls that are no inference: they go to the control process and come back.

Nothing waits here: a call that cannot be handed over at once is refused, and the answers arrive on
the thread that reads the control process's messages.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kedge.core.errors import ServeError, Unavailable, error_from_reason
from kedge.process.channel import Channel, ChannelClosed, Message, MessageTooLarge

log = logging.getLogger("kedge.control")

# Calls on their way, or not answered yet. The control process answers within a millisecond, but a
# load may take minutes, and whoever asks without end is refused.
CALLS_MAX = 1024

Answer = Callable[[bytes | ServeError], None]


class CallForwarder:
    """counted_methods: whose calls take the gateway's counters along, as `counters()` has them."""

    def __init__(
        self,
        channel: Channel,
        counted_methods: frozenset[int],
        counters: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._channel = channel
        self._counted_methods = counted_methods
        self._counters = counters
        self._numbers = itertools.count()
        self._answers: dict[int, Answer] = {}
        self._out: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send, name="calls", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def forward(self, method: int, payload: bytes, answer: Answer) -> None:
        """Hand one call over. On the serving thread, under the lock of whoever counts."""
        if len(self._answers) >= CALLS_MAX:
            answer(Unavailable(f"{CALLS_MAX} calls wait for the control process already"))
            return
        number = next(self._numbers)
        self._answers[number] = answer
        counters = self._counters() if method in self._counted_methods else {}
        self._out.put(({"call": number, "method": method, "counters": counters}, payload))

    def answer(self, message: Message) -> None:
        """Pass an answer of the control process on to the caller."""
        answer = self._answers.pop(message.fields["call"], None)
        if answer is not None:
            error = message.fields["error"]
            answer(message.blob if error is None else error_from_reason(*error))

    def _send(self) -> None:
        while True:
            fields, payload = self._out.get()
            try:
                self._channel.send("call", fields, payload)
            except ChannelClosed:
                return  # the whole process ends with the control process
            except MessageTooLarge as error:
                log.error("call.not_sent %s", error)
                answer = self._answers.pop(fields["call"], None)
                if answer is not None:
                    answer(Unavailable("there are more counters than fit into one message"))
