"""Several processes on one cache, and what is left when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from kedge.core.errors import LoadFailed
from kedge.store.models import ModelStore
from kedge.store.transfer import Job
from store.conftest import LIMITS, Web, of_url
from support.server import is_alive, wait_until

# Fetches argument 2 into the state folder argument 1 and prints the path.
FETCH = """
import sys
from pathlib import Path
from kedge.store.models import ModelStore
from store.conftest import LIMITS, of_url
print(ModelStore(Path(sys.argv[1]), LIMITS).fetch(of_url(sys.argv[2])).path, flush=True)
sys.stdin.read()
"""
TESTS = Path(__file__).parents[1]


def fetching(state: Path, url: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(TESTS)]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(state), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def test_two_processes_at_once_fetch_a_model_once(web: Web, state: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    content = b"x" * 1_000

    def slow(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("If-None-Match") == '"1"':
            handler.send_response(304)
            handler.end_headers()
            return
        web.bodies.append("/m.pt")
        begun.set()
        go_on.wait(30)
        handler.send_response(200)
        handler.send_header("ETag", '"1"')
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    url = web.put("/m.pt", b"")
    web.answers["/m.pt"] = slow
    processes = [fetching(state, url), fetching(state, url)]
    try:
        assert begun.wait(30)
        third = ModelStore(state, replace(LIMITS, fetch_s_max=0.3))
        with pytest.raises(LoadFailed, match=r"another process has been busy with it for 0.3 s"):
            third.fetch(of_url(url))
        go_on.set()
        paths = [first_line(process) for process in processes]
        assert paths[0] == paths[1] != ""
        assert Path(paths[0]).read_bytes() == content
        assert web.bodies == ["/m.pt"]
    finally:
        for process in processes:
            end(process)


def test_a_process_killed_in_the_middle_leaves_nothing_behind(web: Web, state: Path) -> None:
    begun = threading.Event()

    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "200000")
        handler.end_headers()
        handler.wfile.write(bytes(100_000))
        begun.set()
        web.released.wait(30)

    url = web.put("/m.pt", bytes(200_000))
    web.answers["/m.pt"] = half
    process = fetching(state, url)
    folder = state / "cache" / "models"
    try:
        assert begun.wait(30)
        assert wait_until(lambda: [p for p in folder.glob("drafts/*/model.pt") if p.stat().st_size])
        (child,) = children_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # Before its own deadline, 5 s.
        assert wait_until(lambda: not is_alive(child), 3), "the download outlives its server"
    finally:
        end(process)
    assert list(folder.glob("drafts/*"))
    assert list(folder.glob("objects/*")) == []
    del web.answers["/m.pt"]
    assert ModelStore(state, LIMITS).fetch(of_url(url)).path.read_bytes() == bytes(200_000)
    assert list(folder.glob("drafts/*")) == []
    assert len(list(folder.glob("objects/*"))) == 1


def test_what_another_process_uses_is_not_removed_until_it_ends(web: Web, state: Path) -> None:
    a, b = (web.put(f"/{n}.pt", n.encode() * 100) for n in "ab")
    process = fetching(state, a)
    store = ModelStore(state, replace(LIMITS, cache_bytes_max=150))
    try:
        path = Path(first_line(process))
        with pytest.raises(LoadFailed, match="in use"):
            store.fetch(of_url(b))
        assert path.exists()
    finally:
        end(process)
    store.fetch(of_url(b))
    assert not path.exists()


def test_the_child_gets_no_secret_as_an_argument(web: Web, state: Path) -> None:
    begun = threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        begun.set()
        web.released.wait(30)

    web.answers["/m.pt"] = wait
    process = fetching(state, f"http://user:hunter22@{web.address}/m.pt?sig=topsecret")
    try:
        assert begun.wait(30)
        (child,) = children_of(process.pid)
        line = Path(f"/proc/{child}/cmdline").read_text()
        assert "kedge.store.child" in line
        assert "hunter22" not in line
        assert "topsecret" not in line
    finally:
        end(process)


def test_a_child_that_dies_without_a_word_is_a_reason(web: Web, state: Path) -> None:
    store = ModelStore(state, LIMITS)

    def kill_it(handler: BaseHTTPRequestHandler) -> None:
        (child,) = (
            pid for pid in children_of(os.getpid())
            if "kedge.store.child" in Path(f"/proc/{pid}/cmdline").read_text()
        )  # fmt: skip
        os.kill(child, signal.SIGKILL)

    web.answers["/m.pt"] = kill_it
    with pytest.raises(LoadFailed, match="the process that fetched it died"):
        store.fetch(of_url(f"http://{web.address}/m.pt"))


def test_jobs_are_text_that_json_carries() -> None:
    job = Job("https://größe/m.pt", 'etag:"1"', 5.0)
    assert Job(*json.loads(json.dumps(job))) == job
