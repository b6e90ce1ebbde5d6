"""Who may load and unload over HTTP when the server has no tokens: this machine's own programs.

The gateway sees every call of this process come from loopback, so the decision is made here. Not
here: tokens, which the gateway checks (`front/auth.py`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from kedge.core.errors import PermissionDenied

# A proxy on this machine passes other machines' requests on; its own address says nothing.
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def refuse_remote_control(peer: str | None, headers: Mapping[str, str]) -> None:
    """Raises PermissionDenied unless the caller is a program on this machine.

    peer: IP address of the connection. A web page that is open in a browser here is refused too:
    browsers send its origin with every POST.
    """
    if peer is None or not _is_loopback(peer):
        raise _denied(f"the caller is {peer}")
    for name in FORWARDED:
        if name in headers:
            raise _denied(f"the header '{name}' says that a proxy passed the request on")
    if "origin" in headers:
        raise _denied("the header 'origin' says that a web page sent the request")


def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    # A dual-stack listener shows 127.0.0.1 as ::ffff:127.0.0.1.
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _denied(detail: str) -> PermissionDenied:
    return PermissionDenied(
        "control calls are answered on loopback only unless the server has a --token-file; "
        + detail
    )
