"""An asyncio event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")
# What a coroutine of `run` may take: binding a port, or a stop whose own grace is a second.
RUN_S_MAX = 10.0


class LoopThread:
    """Runs from construction until `stop`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """The coroutine's result, or what it raised. Not from the loop's own thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(RUN_S_MAX)

    def stop(self) -> None:
        """End the loop after what is ready to run; the thread is gone on return."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(RUN_S_MAX)
        if not self.loop.is_running():
            self.loop.close()
