"""A file over http or https: one GET, conditional, with redirects that stay on the web.

The standard library's client: it tells ETag and content of one and the same answer, and needs no
package. Proxies are those of the environment (`https_proxy`, `no_proxy`).
"""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from email.message import Message
from typing import IO, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from kedge.core.urls import shown
from kedge.store.transfer import Fetched, Job, OnBytes, TransferFailed, copy

REDIRECTS_MAX = 5
NOT_MODIFIED = 304
WORDS = {
    401: "the server wants other credentials",
    403: "the server refuses it; are the credentials right and still valid?",
    404: "there is no such file",
    410: "there is no such file any more",
}
# Content that is encoded on the way would have another hash than the file.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "kedge"}


def fetch_http(job: Job, target: BinaryIO, on_bytes: OnBytes) -> Fetched:
    """See `Transfer`."""
    request = _request(job)
    opener = urllib.request.OpenerDirector()
    # By hand: build_opener would add handlers for file:, ftp: and data:.
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=job.stall_s_max) as answer:
            return _read(answer, job, target, on_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == NOT_MODIFIED and job.known:
            return Fetched("", 0, job.known, is_unchanged=True)
        words = WORDS.get(error.code, error.reason or "the server cannot answer")
        raise TransferFailed(f"{words} (HTTP {error.code})") from None
    except urllib.error.URLError as error:
        raise TransferFailed(f"no connection: {error.reason}") from None
    except TimeoutError:
        raise TransferFailed(f"nothing came for {job.stall_s_max:g} s") from None
    except (http.client.HTTPException, OSError) as error:
        raise TransferFailed(f"the connection broke: {error or type(error).__name__}") from None


def _request(job: Job) -> urllib.request.Request:
    parts = urlsplit(job.url)
    place = parts.netloc.rpartition("@")[2]
    headers = dict(HEADERS)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    kind, _, value = job.known.partition(":")
    if kind == "etag":
        headers["If-None-Match"] = value
    return urllib.request.Request(  # noqa: S310 - the opener has handlers for http and https only
        urlunsplit(parts._replace(netloc=place, fragment="")), headers=headers
    )


def _read(
    answer: http.client.HTTPResponse, job: Job, target: BinaryIO, on_bytes: OnBytes
) -> Fetched:
    fingerprint = _fingerprint(answer.headers)
    if job.known and fingerprint == job.known:
        return Fetched("", 0, fingerprint, is_unchanged=True)
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise TransferFailed(f"the server sends it encoded ({encoding}), though asked not to")
    length = answer.headers.get("Content-Length", "0")
    size = int(length) if length.isdecimal() else 0
    # read1: what has arrived, so that a slow line shows progress. http.client counts chunked
    # bodies itself; that one with a length was cut off, `copy` sees.
    sha256, done = copy(answer.read1, target, size, on_bytes)
    return Fetched(sha256, done, fingerprint)


def _fingerprint(headers: Message) -> str:
    etag = headers.get("ETag", "")
    if etag:
        return f"etag:{etag}"
    modified = headers.get("Last-Modified", "")
    return f"modified:{modified}:{headers.get('Content-Length', '')}" if modified else ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to http and https only, and from https to https only.

    The password goes to nobody but the server that it was given for.
    """

    max_redirections = REDIRECTS_MAX
    max_repeats = REDIRECTS_MAX

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
    ) -> object:
        target = urljoin(req.full_url, headers.get("Location", ""))
        scheme = urlsplit(target).scheme
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if scheme not in allowed:
            raise TransferFailed(
                f"redirects to {shown(target)}, but only {' and '.join(allowed)} are followed"
            )
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(  # noqa: PLR0917 - the library's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if following is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            following.remove_header("Authorization")
        return following
