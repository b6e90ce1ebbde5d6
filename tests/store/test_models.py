"""From URL to verified file: caching, hashes, failures, secrets."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import fsspec
import pytest

from kedge.core.errors import LoadFailed
from kedge.core.settings import StoreLimits
from kedge.store.models import ModelStore, Progress
from kedge.store.transfer import fetch_here
from store.conftest import LIMITS, Web, of_url
from support.torchscript import manifest

CONTENT = b"a model" * 1_000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reason(store: ModelStore, url: str, sha256: str = "") -> str:
    with pytest.raises(LoadFailed) as failed:
        store.fetch(of_url(url, sha256))
    return str(failed.value)


def drafts(state: Path) -> list[Path]:
    return list((state / "cache" / "models" / "drafts").iterdir())


# What is used again


def test_a_model_comes_once_and_again_only_when_its_etag_changes(
    web: Web, store: ModelStore
) -> None:
    url = web.put("/m.pt", CONTENT, '"1"')
    first = store.fetch(of_url(url))
    assert first.path.read_bytes() == CONTENT
    assert first.path.suffix == ".pt"
    assert first.sha256 == sha256(CONTENT)
    assert store.fetch(of_url(url)) == first
    assert web.bodies == ["/m.pt"]
    web.put("/m.pt", b"new", '"2"')
    second = store.fetch(of_url(url))
    assert (second.path.read_bytes(), second.sha256) == (b"new", sha256(b"new"))
    assert first.path.read_bytes() == CONTENT  # the old version may still serve
    assert len(web.bodies) == 2


def test_without_any_mark_of_its_content_a_file_is_fetched_each_time(
    web: Web, store: ModelStore
) -> None:
    url = web.put("/m.pt", CONTENT)
    assert store.fetch(of_url(url)) == store.fetch(of_url(url))
    assert web.bodies == ["/m.pt"] * 2


def test_with_its_hash_a_model_that_is_here_needs_no_network(web: Web, store: ModelStore) -> None:
    url = web.put("/m.pt", CONTENT)
    first = store.fetch(of_url(url, sha256(CONTENT)))
    asked = len(web.requests)
    elsewhere = "http://127.0.0.1:1/m.pt"
    assert store.fetch(of_url(elsewhere, sha256(CONTENT))).path == first.path
    assert len(web.requests) == asked == 1


def test_another_content_than_the_hash_says_is_refused_and_not_kept(
    web: Web, store: ModelStore, state: Path
) -> None:
    url = web.put("/m.pt", CONTENT)
    text = reason(store, url, "0" * 64)
    assert text.endswith(f"expected sha256 {'0' * 64}, got {sha256(CONTENT)}")
    assert list((state / "cache" / "models" / "objects").iterdir()) == []
    assert drafts(state) == []


def test_a_hash_is_asked_for_even_if_the_source_did_not_change(web: Web, store: ModelStore) -> None:
    url = web.put("/m.pt", CONTENT, '"1"')
    store.fetch(of_url(url))
    assert "expected sha256" in reason(store, url, "0" * 64)


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("damage", ["changed", "shortened", "emptied", "removed", "linked"])
def test_a_damaged_entry_is_noticed_and_fetched_again(
    web: Web, store: ModelStore, damage: str, pinned: bool, tmp_path: Path
) -> None:
    wanted = of_url(web.put("/m.pt", CONTENT, '"1"'), sha256(CONTENT) if pinned else "")
    path = store.fetch(wanted).path
    match damage:
        case "changed":
            path.write_bytes(b"A" + CONTENT[1:])
        case "shortened":
            path.write_bytes(CONTENT[:-1])
        case "emptied":
            path.write_bytes(b"")
        case "removed":
            path.unlink()
        case "linked":
            (tmp_path / "elsewhere").write_bytes(CONTENT)
            path.unlink()
            path.symlink_to(tmp_path / "elsewhere")
    again = store.fetch(wanted)
    assert again.path.read_bytes() == CONTENT
    assert not again.path.is_symlink()
    assert web.bodies == ["/m.pt"] * 2


def test_a_file_of_this_machine_is_checked_where_it_lies(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(CONTENT)
    plain = manifest(path, [], [])
    right = replace(plain, sha256=sha256(CONTENT))
    assert store.fetch(plain) is plain
    assert store.fetch(right) is right
    with pytest.raises(LoadFailed, match=rf"{path}: expected sha256 0+, got"):
        store.fetch(replace(plain, sha256="0" * 64))
    with pytest.raises(LoadFailed, match="there is no such file"):
        store.fetch(replace(right, path=tmp_path / "gone.pt"))


# What goes wrong on the way


def test_a_body_that_is_cut_off_is_refused(web: Web, store: ModelStore, state: Path) -> None:
    def cut_off(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 999)

    url = web.put("/m.pt", b"")
    web.answers["/m.pt"] = cut_off
    assert reason(store, url).endswith("ended after 999 of 1000 bytes")
    assert drafts(state) == []


def test_a_chunked_body_that_is_cut_off_is_refused(web: Web, store: ModelStore) -> None:
    def cut_off(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nhello\r\n")

    url = web.put("/m.pt", b"")
    web.answers["/m.pt"] = cut_off
    assert "the connection broke" in reason(store, url)


def test_a_server_that_stops_sending_is_given_up_in_time(web: Web, state: Path) -> None:
    def hang(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        web.released.wait(30)

    url = web.put("/m.pt", b"")
    web.answers["/m.pt"] = hang
    store = ModelStore(state, replace(LIMITS, stall_s_max=0.3))
    assert reason(store, url).endswith("nothing came for 0.3 s")


def test_a_server_that_drips_is_given_up_when_all_time_is_over(web: Web, state: Path) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not web.released.wait(0.05):
            handler.wfile.write(b"x")

    url = web.put("/m.pt", b"")
    web.answers["/m.pt"] = drip
    store = ModelStore(state, replace(LIMITS, fetch_s_max=1.0))
    assert reason(store, url).endswith("took longer than 1 s")


@pytest.mark.parametrize(
    ("status", "text"), [(401, "credentials"), (403, "refuses"), (404, "no such"), (503, "503")]
)
def test_a_refusal_says_what_it_was(web: Web, store: ModelStore, status: int, text: str) -> None:
    url = web.put("/m.pt", b"")
    web.answers["/m.pt"] = lambda handler: handler.send_error(status)
    assert text in reason(store, url)


def test_nobody_listening_is_a_reason(store: ModelStore) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    assert "Connection refused" in reason(store, f"http://127.0.0.1:{port}/m.pt")


# Redirects and secrets


def redirect(to: str) -> object:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


def test_redirects_are_followed_on_the_web_and_nowhere_else(
    web: Web, store: ModelStore, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    web.put("/m.pt", CONTENT)
    web.answers["/to-web"] = redirect("/m.pt")  # type: ignore[assignment]
    web.answers["/to-file"] = redirect(f"file://{secret}?key=hidden")  # type: ignore[assignment]
    web.answers["/to-ftp"] = redirect("ftp://127.0.0.1/x")  # type: ignore[assignment]
    web.answers["/round"] = redirect("/round")  # type: ignore[assignment]
    base = f"http://{web.address}"
    assert store.fetch(of_url(f"{base}/to-web")).path.read_bytes() == CONTENT
    text = reason(store, f"{base}/to-file")
    assert text.endswith(f"redirects to file://{secret}, but only http and https are followed")
    assert "only http and https" in reason(store, f"{base}/to-ftp")
    assert "HTTP 302" in reason(store, f"{base}/round")


def test_a_password_reaches_its_server_and_no_other(web: Web, store: ModelStore) -> None:
    other = f"http://localhost:{web.address.partition(':')[2]}/m.pt"
    web.put("/m.pt", CONTENT)
    web.answers["/moved"] = redirect(other)  # type: ignore[assignment]
    store.fetch(of_url(f"http://us%20er:pass%2Fword@{web.address}/moved"))
    (first, second) = (headers for _, headers in web.requests)
    assert first["Authorization"] == "Basic dXMgZXI6cGFzcy93b3Jk"
    assert "Authorization" not in second


def test_secrets_of_a_url_are_in_no_message_and_no_file(
    web: Web, state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[Progress] = []
    store = ModelStore(state, LIMITS, seen.append)
    address = web.address
    web.put("/m.pt", CONTENT, '"1"')
    texts = [
        reason(store, f"http://user:hunter22@{address}/gone.pt?sig=topsecret"),
        reason(store, "http://user:hunter22@127.0.0.1:1/x.pt?sig=topsecret#part"),
        reason(store, "s3://bucket/m.pt?versionId=topsecret"),
        reason(store, "file:///gone.pt?sig=topsecret"),
    ]
    loaded = store.fetch(of_url(f"http://user:hunter22@{address}/m.pt?sig=topsecret"))
    texts += [repr(loaded), repr(seen), *capfd.readouterr()]
    texts += [str(path) for path in state.rglob("*")]
    texts += [path.read_text() for path in state.rglob("*.json")]
    assert not [text for text in texts if "hunter22" in text or "topsecret" in text]
    assert seen[0].what == f"http://{address}/m.pt"
    assert web.requests[-1][0] == "/m.pt?sig=topsecret"


# Other sources


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_fsspec_sources_are_fetched_and_known_again(
    memory: fsspec.AbstractFileSystem, state: Path
) -> None:
    store = ModelStore(state, LIMITS, transfer=fetch_here)
    memory.pipe("/models/m.pt", CONTENT)
    assert store.fetch(of_url("memory://models/m.pt")).sha256 == sha256(CONTENT)
    memory.pipe("/models/m.pt", b"new")
    assert store.fetch(of_url("memory://models/m.pt")).sha256 == sha256(b"new")
    memory.rm("/models/m.pt")
    assert reason(store, "memory://models/m.pt") == "memory://models/m.pt: there is no such file"


def test_a_file_url_is_copied_and_read_again_when_the_file_changes(
    store: ModelStore, tmp_path: Path
) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(CONTENT)
    first = store.fetch(of_url(f"file://{path}"))
    assert first.path != path
    assert store.fetch(of_url(f"file://{path}")) == first
    path.write_bytes(b"newer")
    assert store.fetch(of_url(f"file://{path}")).path.read_bytes() == b"newer"
    assert reason(store, f"file://{tmp_path}").endswith("is a folder; write / at its end")


@pytest.mark.parametrize(
    ("scheme", "extra", "package"), [("s3", "s3", "s3fs"), ("gs", "gcs", "gcsfs")]
)
def test_a_missing_package_is_named_with_its_extra(
    state: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    text = reason(ModelStore(state, LIMITS, transfer=fetch_here), f"{scheme}://bucket/m.pt")
    assert text == (
        f"{scheme}://bucket/m.pt: {scheme}:// needs a package that is missing: "
        f"pip install 'kedge[{extra}]'"
    )


# Folders


def put_folder(web: Web, files: dict[str, bytes], sums: str | None = None) -> str:
    for name, content in files.items():
        web.put(f"/folder/{name}", content)
    lines = [f"{sha256(content)}  {name}\n" for name, content in files.items()]
    text = "".join(lines) if sums is None else sums
    web.put("/folder/SHA256SUMS", text.encode(), f'"{sha256(text.encode())}"')
    return f"http://{web.address}/folder/?sig=x"


FOLDER = {"model.py": b"def load(path): ...", "weights/a b.safetensors": CONTENT}


def test_a_folder_is_what_its_list_says(web: Web, store: ModelStore) -> None:
    url = put_folder(web, FOLDER)
    web.put("/folder/weights/a%20b.safetensors", CONTENT)
    web.put("/folder/other", b"")
    loaded = store.fetch(of_url(url))
    folder = loaded.path.parent
    assert loaded.path.name == "model.py"
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {*FOLDER, "SHA256SUMS", ".lock"}
    assert (folder / "weights" / "a b.safetensors").read_bytes() == CONTENT
    assert loaded.sha256 == sha256((folder / "SHA256SUMS").read_bytes())
    assert {path.partition("?")[2] for path, _ in web.requests} == {"sig=x"}
    bodies = len(web.bodies)
    assert store.fetch(of_url(url)) == loaded
    assert len(web.bodies) == bodies
    (folder / "weights" / "a b.safetensors").write_bytes(b"damaged")
    assert store.fetch(of_url(url, loaded.sha256)).path.parent == folder
    assert (folder / "weights" / "a b.safetensors").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name",
    ["../model.pt", "/etc/passwd", "a/../../b", "a//b", ".lock", "a/.ssh", "SHA256SUMS", "a\\b"],
)
def test_a_list_that_leaves_its_folder_is_refused(web: Web, store: ModelStore, name: str) -> None:
    sums = f"{sha256(b'')}  model.py\n{sha256(b'')}  {name}\n"
    text = reason(store, put_folder(web, {"model.py": b""}, sums))
    assert "SHA256SUMS:2: expected a path inside the folder" in text
    assert web.bodies == ["/folder/SHA256SUMS"]


@pytest.mark.parametrize(
    ("sums", "text"),
    [
        ("", "does not list model.py"),
        ("model.py\n", "SHA256SUMS:1: expected a hash, two blanks and a name"),
        (f"{'0' * 64}  model.py\n" * 2, "SHA256SUMS:2: expected a path inside the folder, each"),
        (f"{'0' * 64}  model.py\n", "model.py: expected sha256 000"),
        (
            "".join(f"{'0' * 64}  {i}\n" for i in range(LIMITS.folder_files_max + 1)),
            "lists 1001 files, at most 1000",
        ),
    ],
)
def test_a_wrong_list_says_what_is_wrong(
    web: Web, store: ModelStore, state: Path, sums: str, text: str
) -> None:
    assert text in reason(store, put_folder(web, {"model.py": b""}, sums))
    assert drafts(state) == []


def test_a_folder_without_a_list_says_how_to_make_one(web: Web, store: ModelStore) -> None:
    text = reason(store, f"http://{web.address}/folder/")
    assert "SHA256SUMS: there is no such file (HTTP 404)" in text
    assert "sha256sum * > SHA256SUMS" in text


# Bounds


def test_the_least_recently_used_leaves_and_what_is_held_never(web: Web, state: Path) -> None:
    store = ModelStore(state, StoreLimits(cache_bytes_max=250, stall_s_max=5.0))
    a, b, c, d = (of_url(web.put(f"/{n}.pt", n.encode() * 100, f'"{n}"')) for n in "abcd")
    at_a = store.fetch(a)
    at_b = store.fetch(b)
    assert "in use; raise --model-cache-size" in reason(store, c.url)
    store.release(at_a)
    store.release(at_b)
    at_a = store.fetch(a)
    store.fetch(c)
    assert at_a.path.exists()
    assert not at_b.path.exists()
    assert "in use" in reason(store, d.url)
    assert drafts(state) == []


def test_what_is_held_twice_stays_until_it_is_released_twice(web: Web, state: Path) -> None:
    store = ModelStore(state, StoreLimits(cache_bytes_max=150, stall_s_max=5.0))
    a, b = (of_url(web.put(f"/{n}.pt", n.encode() * 100, '"1"')) for n in "ab")
    held = store.fetch(a)
    assert store.fetch(a) == held
    store.release(held)
    reason(store, b.url)
    assert held.path.exists()
    store.release(held)
    store.fetch(b)
    assert not held.path.exists()


def test_a_file_without_end_is_stopped_at_the_bound(web: Web, state: Path) -> None:
    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not web.released.wait(0.001):
            handler.wfile.write(bytes(100_000))

    url = web.put("/m.pt", b"")
    web.answers["/m.pt"] = pour
    assert "raise --model-cache-size" in reason(ModelStore(state, LIMITS), url)
    assert drafts(state) == []


def test_the_cache_is_for_its_owner_only(web: Web, store: ModelStore, state: Path) -> None:
    store.fetch(of_url(web.put("/m.pt", CONTENT)))
    folders = [p for p in (state / "cache" / "models").rglob("*") if p.is_dir()]
    assert {p.stat().st_mode & 0o777 for p in folders} == {0o700}
