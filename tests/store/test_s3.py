"""S3 through s3fs, against a server of the test that knows as much of S3 as reading takes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kedge.core.errors import LoadFailed
from kedge.store.models import ModelStore
from store.conftest import of_url

pytest.importorskip("s3fs")
CONTENT = b"a model" * 1_000


@dataclass
class Bucket:
    """objects: content by /bucket/key; reads: the keys whose content was sent."""

    objects: dict[str, bytes] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    signed: list[bool] = field(default_factory=list)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    bucket = Bucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(is_read=False)

        def do_GET(self) -> None:
            self._answer(is_read=True)

        def _answer(self, *, is_read: bool) -> None:
            path = self.path.partition("?")[0]
            bucket.signed.append("AKIATEST" in self.headers.get("Authorization", ""))
            content = bucket.objects.get(path)
            if content is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            etag = hashlib.sha256(content).hexdigest()[:32]
            first, last = 0, len(content) - 1
            if "Range" in self.headers:
                first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                last = min(last, len(content) - 1)
            part = content[first : last + 1]
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Last-Modified", "Tue, 01 Jan 2030 00:00:00 GMT")
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            if is_read:
                bucket.reads.append(path)
                self.wfile.write(part)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield bucket
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_object_comes_once_and_again_when_its_etag_changes(
    bucket: Bucket, store: ModelStore
) -> None:
    bucket.objects["/models/churn/m.pt"] = CONTENT
    url = "s3://models/churn/m.pt"
    first = store.fetch(of_url(url))
    assert first.path.read_bytes() == CONTENT
    assert all(bucket.signed)
    reads = len(bucket.reads)
    assert store.fetch(of_url(url)) == first
    assert len(bucket.reads) == reads
    bucket.objects["/models/churn/m.pt"] = b"new"
    assert store.fetch(of_url(url)).path.read_bytes() == b"new"


def test_an_object_that_is_not_there_is_a_reason(bucket: Bucket, store: ModelStore) -> None:
    with pytest.raises(LoadFailed, match=r"^s3://models/gone.pt: there is no such file$"):
        store.fetch(of_url("s3://models/gone.pt"))
