"""What `kedge doctor` finds out about the machine, one small function per check."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MIB = 1024 * 1024
# torch, numba and the front take about 400 MiB before the first model is loaded.
MEMORY_BYTES_MIN = 1024 * MIB
# Every client connection is one open file; below this a busy server runs out of them.
OPEN_FILES_MIN = 4096
# Receiving and executing run on one core, HTTP, metrics and the clients' system calls on another.
CORES_MIN = 2
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


class Finding(NamedTuple):
    """One line of the report. state: ok, warn or fail."""

    check: str
    state: str
    detail: str


def machine_findings(host: str, ports: Mapping[str, int]) -> Iterator[Finding]:
    """Everything about this machine; ports: by name, 0 = any."""
    yield _python()
    yield from _packages()
    yield _compiler()
    yield _cores()
    yield _memory()
    yield _open_files()
    for name, port in ports.items():
        yield _port(name, host, port)


def _python() -> Finding:
    state = "ok" if sys.version_info >= (3, 11) else "fail"
    return Finding("python", state, f"{platform.python_version()}, 3.11 or newer is needed")


def _packages() -> Iterator[Finding]:
    """What this installation of Kedge requires, without the extras; torch is tried, not asked."""
    for requirement in importlib.metadata.requires("kedge") or ():
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "fail", f"not installed: pip install '{requirement}'")
        else:
            yield Finding(name, "ok", f"{version} ({requirement})")


def _compiler() -> Finding:
    name = os.environ.get("CXX", "g++")
    if shutil.which(name):
        return Finding("C++ compiler", "ok", f"{name}: `compile` may choose AOTInductor")
    return Finding(
        "C++ compiler", "ok", f"no {name}: not needed, but `compile` has one choice less"
    )


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    enough = (cores or 1) >= CORES_MIN
    advice = "" if enough else f"; {CORES_MIN} let HTTP and metrics run beside the models"
    return Finding("cores", "ok" if enough else "warn", f"{cores}{advice}")


def _memory() -> Finding:
    try:
        free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return Finding("memory", "ok", "unknown on this system")
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        free_bytes = min(free_bytes, int(CGROUP_MEMORY.read_text()))
    enough = free_bytes >= MEMORY_BYTES_MIN
    text = f"{free_bytes // MIB} MiB free"
    advice = "" if enough else f", {MEMORY_BYTES_MIN // MIB} MiB are needed before any model"
    return Finding("memory", "ok" if enough else "warn", text + advice)


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= OPEN_FILES_MIN
    text = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    advice = "" if enough else f"; each connection is one: ulimit -n {OPEN_FILES_MIN}"
    return Finding("open files", "ok" if enough else "warn", text + advice)


def _port(name: str, host: str, port: int) -> Finding:
    check = f"{name} port"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            # As servers do: a port whose last connections still linger is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        advice = f"free it, or give another --{name}-port"
        return Finding(check, "fail", f"{host}:{port}: {error.strerror or error}; {advice}")
    return Finding(check, "ok", "any" if port == 0 else f"{host}:{port} is free")
