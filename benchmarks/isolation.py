"""Do the other models of a server disturb a small one?

p99 of an inline model of about 0.1 ms with one request in flight: alone, beside an AOTInductor
model of 100 ms, beside a Python model that holds its GIL for 50 ms, and beside both, in one server,
each neighbour kept busy all the time. Expected: p99 beside both grows by at most 2 ms.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from statistics import median
from typing import Any

from _checks import Check, check_table, exit_code
from _harness import (
    BENCHMARKS_PAGE,
    console,
    how,
    keep_result,
    replace_block,
    result_row,
    run_benchmark,
    show,
    write_block,
)
from _kedge import Endpoint, serve_endpoints, torchscript_endpoints
from _load import LoadFailed, h2load, h2load_background
from _processes import ending_on_signals, run_program
from _servers import Server
from _wire import MODELS, check_answer, infer_request, payload
from peers import SERVERS

STEADY, HEAVY, SPINNING = "steady", "heavy", "spinning"
SCENES: dict[str, Sequence[str]] = {
    "alone": (),
    "beside AOTInductor, 100 ms": (HEAVY,),
    "beside Python, spinning 50 ms": (SPINNING,),
    "beside both": (HEAVY, SPINNING),
}
ALONE, BOTH = "alone", "beside both"
# One request runs and one waits: the neighbour never idles.
NEIGHBOUR_IN_FLIGHT = 2
SETTLE_S = 1.0
GROWTH_MS_MAX = 2.0


def main() -> int:
    """Measures and shows; 1 if the goal is missed."""
    options = parse_options()
    if options.write_readme:
        replace_block(BENCHMARKS_PAGE.read_text(), "isolation", "")
    rounds: dict[str, list[dict[str, float]]] = {scene: [] for scene in SCENES}
    with (
        ending_on_signals(),
        tempfile.TemporaryDirectory(prefix="kedge-") as folder,
        running(Path(folder)) as server,
    ):
        for number in range(1, options.rounds + 1):
            for scene, neighbours in SCENES.items():
                with console.status(f"round {number}: {scene}"):
                    rounds[scene].append(measure(server, neighbours, options.seconds))
    scenes = {scene: medians(measured) for scene, measured in rounds.items()}
    growth_ms = (scenes[BOTH]["p99_us"] - scenes[ALONE]["p99_us"]) / 1000
    checks = [Check("growth of p99 beside both", growth_ms, GROWTH_MS_MAX, "ms")]
    settings = {"rounds": options.rounds, "seconds": options.seconds}
    found = {"settings": settings, "scenes": scenes, "rounds": rounds}
    row = result_row("isolation", {**found, "checks": [check.row() for check in checks]})
    report = markdown(row, checks)
    show(report)
    keep_result(row, options.quick)
    if options.write_readme:
        write_block(BENCHMARKS_PAGE, "isolation", report)
    return exit_code(checks)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="medians are over the rounds")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each load")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s")
    parser.add_argument("--write-readme", action="store_true", help="table into the page")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 2.0
    return options


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """One Kedge with all three models; ended when the block is left."""
    endpoints = folder / "endpoints"
    models = folder / "models"
    endpoints.mkdir()
    (models / SPINNING).mkdir(parents=True)
    copyfile(SERVERS / "spinning.py", models / SPINNING / "model.py")
    package = models / f"{HEAVY}.pt2"
    with console.status("compiling the AOTInductor model, half a minute"):
        compiler = [sys.executable, str(SERVERS / "aotinductor.py"), str(package)]
        run_program(compiler)
    expected = torchscript_endpoints(endpoints, [STEADY])
    for name, file in ((HEAVY, package), (SPINNING, models / SPINNING / "model.py")):
        # As it is: a compiled one of the spinning model would spin once, at its compilation.
        endpoint = Endpoint(name, str(file), MODELS[name], "workers", {"compile": "none"})
        (endpoints / f"{name}.yaml").write_text(endpoint.document())
    server = serve_endpoints(endpoints, folder, expected, "kedge", "--allow-model-code")
    try:
        check_answer(server.address, expected[STEADY], STEADY)
        check_answer(server.address, payload(SPINNING), SPINNING)
        yield server
    finally:
        server.process.stop()


def measure(server: Server, neighbours: Sequence[str], seconds: float) -> dict[str, float]:
    """The small model's load beside its neighbours' loads, and how fast these went meanwhile."""
    message = infer_request(STEADY).SerializeToString()
    with busy(server, neighbours):
        time.sleep(SETTLE_S)
        begin = {name: server.successes(name) for name in neighbours}
        load = h2load(server.address, message, 1, seconds)
        answered = {name: server.successes(name) - begin[name] for name in neighbours}
    if idle := [name for name, count in answered.items() if count == 0]:
        raise LoadFailed(f"{', '.join(idle)} answered nothing meanwhile")
    rates = {f"{name}_per_s": round(count / seconds, 1) for name, count in answered.items()}
    return {
        "p50_us": load.p50_us,
        "p99_us": load.p99_us,
        "requests_per_s": round(load.requests_per_s, 1),
        **rates,
    }


@contextmanager
def busy(server: Server, models: Sequence[str]) -> Iterator[None]:
    """Keeps requests in flight at each of the models until the block is left."""
    loads = []
    try:
        for model in models:
            message = infer_request(model).SerializeToString()
            loads.append(h2load_background(server.address, message, NEIGHBOUR_IN_FLIGHT))
        yield
    finally:
        for load in loads:
            load.stop()


def medians(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure over the rounds."""
    return {name: median(one[name] for one in measured) for name in measured[0]}


def markdown(row: dict[str, Any], checks: list[Check]) -> str:
    """The goal, then one line per scene."""
    lines = [
        "| small model | p50 ms | p99 ms | every p99 | requests/s | neighbours, batches/s |",
        "|---|--:|--:|---|--:|---|",
    ]
    for scene, found in row["scenes"].items():
        every = ", ".join(f"{one['p99_us'] / 1000:.2f}" for one in row["rounds"][scene])
        rates = [f"{name} {found[f'{name}_per_s']:g}" for name in SCENES[scene]]
        lines.append(
            f"| {scene} | {found['p50_us'] / 1000:.2f} | {found['p99_us'] / 1000:.2f} | {every} "
            f"| {found['requests_per_s']:,.0f} | {', '.join(rates) or '–'} |"
        )
    settings = row["settings"]
    rounds = f"medians of {settings['rounds']} rounds of {settings['seconds']:g} s"
    return "\n\n".join([check_table(checks), "\n".join(lines), how(row, rounds)])


if __name__ == "__main__":
    run_benchmark(main)
