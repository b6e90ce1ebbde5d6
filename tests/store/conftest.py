"""A web server whose answers the test decides, and a store that asks it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kedge.core.settings import StoreLimits
from kedge.core.values import VersionManifest
from kedge.store.models import ModelStore
from support.torchscript import manifest

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Web:
    """files: what lies under which path, as content and ETag; answers: what to do instead.
    requests: (path, headers) of all GETs; bodies: paths whose content was sent.
    """

    address: str = ""
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def put(self, path: str, content: bytes, etag: str = "") -> str:
        """The file's URL."""
        self.files[path] = (content, etag)
        return f"http://{self.address}{path}"


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            web.requests.append((self.path, dict(self.headers.items())))
            if path in web.answers:
                web.answers[path](self)
            elif path not in web.files:
                self.send_error(404)
            else:
                content, etag = web.files[path]
                if etag and self.headers.get("If-None-Match") == etag:
                    self.send_response(304)
                    self.end_headers()
                    return
                web.bodies.append(path)
                self.send_response(200)
                if etag:
                    self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield web
    web.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


LIMITS = StoreLimits(cache_bytes_max=1_000_000, stall_s_max=5.0, fetch_s_max=30.0)


def of_url(url: str, sha256: str = "") -> VersionManifest:
    name = url.partition("?")[0].rpartition("/")[2] or "model.py"
    return replace(manifest(Path(name), [], []), url=url, sha256=sha256)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> ModelStore:
    return ModelStore(state, LIMITS)
