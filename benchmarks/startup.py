"""How long until `kedge serve` of a TorchScript model is ready, with warm caches?

From the start of the process to its `ready` line, the median of five; each must then answer
correctly. Expected: under 4 s, of which the import of torch takes about 2 s.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from _harness import console, keep_result, result_row, run_benchmark
from _kedge import READY_LINE, start_kedge, torchscript_endpoints
from _processes import ending_on_signals
from _servers import START_TIMEOUT_S
from _wire import MODEL, Rows, check_answer

READY_S_MAX = 4.0


def main() -> int:
    """Measures, prints and keeps the result; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=5, help="how many starts are timed")
    parser.add_argument("--quick", action="store_true", help="one start")
    options = parser.parse_args()
    starts = 1 if options.quick else options.starts
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-") as folder:
        endpoints = Path(folder, "endpoints")
        endpoints.mkdir()
        expected = torchscript_endpoints(endpoints, [MODEL], "auto")[MODEL]
        # The first start compiles what the kernels' cache does not have yet.
        first_s = start_once(endpoints, Path(folder), expected)
        console.print(f"first start, not counted: {first_s:.2f} s")
        ready_s = [start_once(endpoints, Path(folder), expected) for _ in range(starts)]
    row = {
        "first_s": round(first_s, 3),
        "ready_s": [round(value, 3) for value in ready_s],
        "ready_s_median": round(median(ready_s), 3),
        "ready_s_max": READY_S_MAX,
    }
    reached = median(ready_s) < READY_S_MAX
    times = ", ".join(f"{value:.2f}" for value in ready_s)
    console.print(f"ready after {times} s: median {median(ready_s):.2f} s, ", end="")
    console.print(f"goal under {READY_S_MAX:g} s: {'reached' if reached else 'missed'}")
    keep_result(result_row("startup", row), options.quick)
    return 0 if reached else 1


def start_once(endpoints: Path, folder: Path, expected: Rows) -> float:
    """Seconds from the start of one server to its ready line; the server is ended again."""
    begin_s = time.monotonic()
    process = start_kedge(endpoints, folder)
    try:
        address = process.wait_for_line(READY_LINE, START_TIMEOUT_S)[1]
        ready_s = time.monotonic() - begin_s
        check_answer(address, expected)
        return ready_s
    finally:
        process.stop()


if __name__ == "__main__":
    run_benchmark(main)
