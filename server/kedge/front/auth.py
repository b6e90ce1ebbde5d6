"""Who may call what: bearer tokens with roles, or, without a token file, control from loopback
only.

Pure decisions over one header or peer string; the front asks and refuses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kedge.core.errors import PermissionDenied, ServeError, Unauthenticated

OPEN = "open"
# Each role may do what its own methods need and what the roles in its set need.
ROLES: Mapping[str, frozenset[str]] = {
    "infer": frozenset({"infer"}),
    "read": frozenset({"read"}),
    "operate": frozenset({"infer", "read", "operate"}),
}
LOOPBACK_PREFIXES = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "ipv6:[::ffff:127.", "unix:")


@dataclass(frozen=True, slots=True)
class Access:
    """The rule for every call. roles_by_digest: SHA-256 of `Bearer TOKEN` to role; empty = no
    tokens.

    Digests are compared, never tokens, so that the time of a look-up tells nothing about a token.
    """

    roles_by_digest: Mapping[bytes, str]

    @property
    def needs_token(self) -> bool:
        return bool(self.roles_by_digest)

    def refusal(self, needed: frozenset[str], caller: bytes | str | None) -> ServeError | None:
        """Why a call is refused, or None. needed: roles of which one suffices; OPEN needs none.

        caller: the authorization header as bytes, or the peer as a string where there is none.
        """
        if OPEN in needed:
            return None
        if not self.needs_token:
            return _refuse_remote_control(needed, caller)
        if not isinstance(caller, bytes):
            return Unauthenticated(
                "a token is required: send the metadata 'authorization: Bearer …'"
            )
        role = self.roles_by_digest.get(hashlib.sha256(caller).digest())
        if role is None:
            return Unauthenticated("the token in 'authorization' is not known to this server")
        if ROLES[role].isdisjoint(needed):
            return PermissionDenied(
                f"this method needs the role {' or '.join(sorted(needed))}, the token has {role}"
            )
        return None


def _refuse_remote_control(needed: frozenset[str], caller: bytes | str | None) -> ServeError | None:
    if needed != {"operate"}:
        return None
    if isinstance(caller, str) and caller.startswith(LOOPBACK_PREFIXES):
        return None
    return PermissionDenied(
        "control calls are answered on loopback only unless the server has a --token-file; "
        f"the caller is {caller!r}"
    )


def load_access(token_file: Path | None) -> Access:
    """Read `role:token` lines; blank lines and lines that begin with # are skipped.

    Raises ValueError naming file and line (never the token) for an unknown role or an empty token.
    """
    roles: dict[bytes, str] = {}
    if token_file is None:
        return Access(roles)
    for number, line in enumerate(token_file.read_text("utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        role, separator, token = line.partition(":")
        token = token.strip()
        if role.strip() not in ROLES or not separator or not token:
            raise ValueError(
                f"{token_file}:{number}: expected ROLE:TOKEN with ROLE one of {', '.join(ROLES)}"
            )
        roles[hashlib.sha256(b"Bearer " + token.encode()).digest()] = role.strip()
    if not roles:
        raise ValueError(f"{token_file}: expected at least one ROLE:TOKEN line, found none")
    return Access(roles)
