"""Tokens, roles and the loopback rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedge.core.errors import PermissionDenied, Unauthenticated
from kedge.front.auth import load_access

INFER = frozenset({"infer"})
METADATA = frozenset({"infer", "read"})
READ = frozenset({"read"})
OPERATE = frozenset({"operate"})
OPEN = frozenset({"open"})


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("# who may do what\n\ninfer:aaa\nread: bbb\noperate:ccc\n")
    return path


@pytest.mark.parametrize(
    ("needed", "token", "error"),
    [
        (INFER, b"Bearer aaa", None),
        (INFER, b"Bearer bbb", PermissionDenied),
        (INFER, b"Bearer ccc", None),
        (METADATA, b"Bearer bbb", None),
        (READ, b"Bearer aaa", PermissionDenied),
        (READ, b"Bearer ccc", None),
        (OPERATE, b"Bearer aaa", PermissionDenied),
        (OPERATE, b"Bearer bbb", PermissionDenied),
        (OPERATE, b"Bearer ccc", None),
        (INFER, b"Bearer aa", Unauthenticated),
        (INFER, b"aaa", Unauthenticated),
        (INFER, b"bearer aaa", Unauthenticated),
        (INFER, "ipv4:127.0.0.1:5", Unauthenticated),
        (OPEN, b"Bearer wrong", None),
        (OPEN, "ipv4:9.9.9.9:5", None),
    ],
)
def test_a_token_opens_what_its_role_needs_and_nothing_else(
    token_file: Path, needed: frozenset[str], token: bytes | str, error: type | None
) -> None:
    refusal = load_access(token_file).refusal(needed, token)
    assert refusal is None if error is None else type(refusal) is error


@pytest.mark.parametrize(
    ("peer", "is_allowed"),
    [
        ("ipv4:127.0.0.1:50000", True),
        ("ipv4:127.9.9.9:50000", True),
        ("ipv6:[::1]:50000", True),
        ("unix:", True),
        ("ipv4:10.0.0.7:50000", False),
        ("ipv4:128.0.0.1:127", False),
        ("", False),
    ],
)
def test_without_tokens_control_is_answered_on_loopback_only(peer: str, is_allowed: bool) -> None:
    access = load_access(None)
    assert (access.refusal(OPERATE, peer) is None) == is_allowed
    assert access.refusal(INFER, peer) is None
    assert access.refusal(READ, peer) is None


def test_without_tokens_a_header_does_not_make_a_caller_local() -> None:
    assert isinstance(load_access(None).refusal(OPERATE, b"ipv4:127.0.0.1"), PermissionDenied)


@pytest.mark.parametrize(
    ("text", "line"), [("admin:x", 1), ("infer:a\nread:", 2), ("infer", 1), ("", 0), ("# x\n", 0)]
)
def test_a_bad_token_file_is_refused_with_its_line_and_without_its_secrets(
    tmp_path: Path, text: str, line: int
) -> None:
    path = tmp_path / "tokens"
    path.write_text(text.replace("x", "s3cret"))
    with pytest.raises(ValueError, match="expected") as caught:
        load_access(path)
    assert "s3cret" not in str(caught.value)
    assert f"{path}:{line}" in str(caught.value) or line == 0
