"""What a running server of a benchmark is, whoever made it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from _metrics import metric_sum
from _processes import ServerProcess
from _wire import Rows, success_count

START_TIMEOUT_S = 60.0
SETTLE_S = 0.05
SETTLE_S_MAX = 5.0


@dataclass(frozen=True)
class Server:
    """One running server.

    expected: per model that it serves, its answer to the payload. serving: pattern of the command
    lines whose CPU time counts, None for the whole tree. metrics: address of its Prometheus page,
    None if it has none that the benchmark reads. success_metric: the counter of successes there,
    None where ModelStatistics has it.
    """

    name: str
    process: ServerProcess
    address: str
    expected: Mapping[str, Rows]
    serving: str | None = None
    metrics: str | None = None
    success_metric: str | None = None

    def cpu_s(self) -> float:
        """CPU seconds so far of the processes that serve."""
        return self.process.cpu_s(self.serving)

    def successes(self, model: str) -> int:
        """How many requests for the model it says to have answered with OK."""
        if self.success_metric is None:
            return success_count(self.address, model)
        assert self.metrics is not None
        return int(metric_sum(self.metrics, self.success_metric, model=model))

    def settled_successes(self, model: str) -> int:
        """successes() once it stands still: calls that a load's end cut off are answered later."""
        deadline_s = time.monotonic() + SETTLE_S_MAX
        before, now = -1, self.successes(model)
        while now != before and time.monotonic() < deadline_s:
            time.sleep(SETTLE_S)
            before, now = now, self.successes(model)
        return now


def ready(process: ServerProcess, pattern: str) -> tuple[str, ...]:
    """Waits for the line that says the server serves; a server that does not is ended."""
    try:
        groups = process.wait_for_line(pattern, START_TIMEOUT_S).groups()
    except BaseException:
        process.stop()
        raise
    return tuple(str(group) for group in groups)


def port_options(grpc: int, http: int, metrics: int) -> list[str]:
    """Kedge and Triton call their ports the same."""
    return [f"--grpc-port={grpc}", f"--http-port={http}", f"--metrics-port={metrics}"]
