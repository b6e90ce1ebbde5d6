"""Who may load and unload when there are no tokens."""

from __future__ import annotations

import pytest

from kedge.control.http.access import refuse_remote_control
from kedge.core.errors import PermissionDenied


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_programs_on_this_machine_may_control_the_server(peer: str) -> None:
    refuse_remote_control(peer, {"host": "localhost"})


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "128.0.0.1", "", "localhost", None]
)
def test_other_machines_may_not(peer: str | None) -> None:
    with pytest.raises(PermissionDenied, match="on loopback only unless the server has"):
        refuse_remote_control(peer, {})


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"x-forwarded-for": "127.0.0.1"}, "a proxy passed the request on"),
        ({"forwarded": "for=10.0.0.1"}, "a proxy passed the request on"),
        ({"origin": "http://localhost"}, "a web page sent the request"),
        ({"origin": "null"}, "a web page sent the request"),
    ],
)
def test_proxies_and_web_pages_on_this_machine_may_not(
    header: dict[str, str], expected: str
) -> None:
    with pytest.raises(PermissionDenied, match=expected):
        refuse_remote_control("127.0.0.1", header)
