"""What does a request cost behind the grpcio front, next to the native one?

One server per front with the same small MLP, in turns; CPU of the server's process tree per
request, and latency with one call in flight. Expected: grpcio takes 5 to 15 times the CPU per
unary call, and a message of one of its streams less than a call.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import grpc.aio
import numpy as np
from _harness import (
    REPOSITORY,
    describe,
    keep_result,
    replace_block,
    result_row,
    run_benchmark,
    show,
    write_block,
)
from _kedge import READY_LINE, start_kedge, torchscript_endpoints
from _load import h2load, h2load_version
from _processes import ServerProcess, ending_on_signals
from _servers import ready
from _wire import METHOD_PATH, MODEL, check_answer, infer_request

FRONTS = ("native", "grpcio")
STREAM_PATH = METHOD_PATH.replace("ModelInfer", "ModelStreamInfer")
PAGE = REPOSITORY / "docs" / "fronts.md"
IN_FLIGHT = 64
CONNECTIONS = 8

Measures = dict[str, float]
Ask = Callable[[], Awaitable[object]]


def main() -> int:
    """Measures, prints and keeps the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load")
    parser.add_argument("--quick", action="store_true", help="one round of 0.5 s")
    parser.add_argument("--write-readme", action="store_true", help="the table into docs/fronts.md")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    if options.write_readme:
        replace_block(PAGE.read_text(), "fronts", "")
    rounds: dict[str, list[Measures]] = {}
    machine_load = round(os.getloadavg()[0], 1)
    with (
        ending_on_signals(),
        tempfile.TemporaryDirectory(prefix="kedge-") as folder,
        ExitStack() as running,
    ):
        servers = {name: _start(name, Path(folder), running) for name in FRONTS}
        for _ in range(options.rounds):
            for name, (process, address) in servers.items():
                for load, measures in _measure(name, process, address, options.seconds).items():
                    rounds.setdefault(load, []).append(measures)
    medians = {
        load: {key: round(median(each[key] for each in runs), 1) for key in runs[0]}
        for load, runs in rounds.items()
    }
    settings = {"rounds": options.rounds, "seconds": options.seconds, "in_flight": IN_FLIGHT}
    tool = h2load_version() or f"grpc.aio client, {CONNECTIONS} connections"
    measured = {
        "machine_load": machine_load,
        "settings": settings,
        "load_tool": tool,
        "median": medians,
        "rounds": rounds,
    }
    row = result_row("fronts", measured)
    report = markdown(row)
    show(report)
    keep_result(row, options.quick)
    if options.write_readme:
        write_block(PAGE, "fronts", report)
    return 0


def markdown(row: dict[str, Any]) -> str:
    """One line per load, and how it was measured."""
    lines = [
        "| | CPU µs/request | requests/s | p50 ms alone | p99 ms alone | MB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for load, figures in row["median"].items():
        lines.append(
            f"| {load} | {figures['cpu_us_per_request']:.0f} | {figures['requests_per_s']:,.0f} | "
            f"{figures['p50_us_alone'] / 1e3:.2f} | {figures['p99_us_alone'] / 1e3:.2f} | "
            f"{figures['pss_mb']:.0f} |"
        )
    settings = row["settings"]
    how = (
        f"{row['date'][:10]}, medians of {settings['rounds']} interleaved rounds of "
        f"{settings['seconds']:g} s; unary load by {row['load_tool']}, streams by a grpc.aio "
        f"client; load of the machine before {row['machine_load']}: {describe(row['machine'])}."
    )
    return "\n".join([*lines, "", how])


def _start(name: str, folder: Path, running: ExitStack) -> tuple[ServerProcess, str]:
    own = folder / name
    own.mkdir()
    endpoints = own / "endpoints"
    endpoints.mkdir()
    expected = torchscript_endpoints(endpoints, [MODEL])
    process = start_kedge(endpoints, own, "--front", name)
    running.callback(process.stop)
    address = ready(process, READY_LINE)[0]
    check_answer(address, expected[MODEL])
    return process, address


def _measure(name: str, process: ServerProcess, address: str, seconds: float) -> dict[str, Any]:
    found = {f"{name} unary": asyncio.run(_calls(process, address, seconds))}
    if h2load_version():
        message = infer_request().SerializeToString()
        before_s = process.cpu_s()
        load = h2load(address, message, IN_FLIGHT, seconds)
        used_us = (process.cpu_s() - before_s) * 1e6
        found[f"{name} unary"] |= {
            "cpu_us_per_request": used_us / load.requests,
            "requests_per_s": load.requests_per_s,
        }
    found[f"{name} stream"] = asyncio.run(_messages(process, address, seconds))
    for measures in found.values():
        measures["pss_mb"] = process.pss_bytes() / 1e6
    return found


async def _calls(process: ServerProcess, address: str, seconds: float) -> Measures:
    """Unary calls: 64 in flight over 8 connections, then one."""
    message = infer_request().SerializeToString()
    own = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, own) for _ in range(CONNECTIONS)]
    asks: list[Ask] = []
    for index in range(IN_FLIGHT):
        method = channels[index % CONNECTIONS].unary_unary(METHOD_PATH)
        asks.append(lambda method=method: method(message))  # type: ignore[misc]
    measures = await _load(process, asks, seconds)
    for channel in channels:
        await channel.close()
    return measures


async def _messages(process: ServerProcess, address: str, seconds: float) -> Measures:
    """Messages of one stream: 64 under way, then one."""
    message = infer_request().SerializeToString()
    answers: asyncio.Queue[object] = asyncio.Queue()
    requests: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def sent() -> AsyncIterator[bytes]:
        while (request := await requests.get()) is not None:
            yield request

    async def read() -> None:
        async for answer in call:
            answers.put_nowait(answer)

    async def ask() -> object:
        requests.put_nowait(message)
        return await answers.get()

    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(STREAM_PATH)(sent())
        reader = asyncio.ensure_future(read())
        measures = await _load(process, [ask] * IN_FLIGHT, seconds)
        requests.put_nowait(None)
        await reader
    return measures


async def _load(process: ServerProcess, asks: list[Ask], seconds: float) -> Measures:
    """Keep every one of `asks` under way for `seconds`, then the first alone for a quarter."""

    async def keep(ask: Ask, until_s: float, elapsed_us: list[float]) -> None:
        while (begin_s := time.monotonic()) < until_s:
            await ask()
            elapsed_us.append((time.monotonic() - begin_s) * 1e6)

    every_us: list[float] = []
    before_s, begin_s = process.cpu_s(), time.monotonic()
    await asyncio.gather(*(keep(ask, begin_s + seconds, every_us) for ask in asks))
    took_s, used_s = time.monotonic() - begin_s, process.cpu_s() - before_s
    alone_us: list[float] = []
    await keep(asks[0], time.monotonic() + seconds / 4, alone_us)
    return {
        "cpu_us_per_request": used_s * 1e6 / len(every_us),
        "requests_per_s": len(every_us) / took_s,
        "p50_us_alone": float(np.percentile(alone_us, 50)),
        "p99_us_alone": float(np.percentile(alone_us, 99)),
    }


if __name__ == "__main__":
    run_benchmark(main)
