"""TLS and mTLS of the grpcio front, and every way in which certificate files can be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from kedge.core.ports import Front
from kedge.core.settings import FrontSettings
from kedge.front.certificates import load_certificates
from support.certificates import Pair, authority, signed
from support.fronts import (
    DEADLINE_S,
    INFER,
    OPERATE,
    STREAM,
    answering,
    failure,
    local_channel,
    running_front,
    tokens,
)


class Pki(NamedTuple):
    """Two authorities that do not know each other, and what each has signed."""

    ca: Pair
    server: Pair
    client: Pair
    other_ca: Pair
    other_client: Pair


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    ca, other = authority(folder, "ca"), authority(folder, "other")
    return Pki(
        ca,
        signed(folder, "server", ca),
        signed(folder, "client", ca),
        other,
        signed(folder, "stranger", other),
    )


def tls(pki: Pki, client_ca: Path | None = None) -> FrontSettings:
    return FrontSettings(tls_cert=pki.server.cert, tls_key=pki.server.key, tls_client_ca=client_ca)


@contextmanager
def secure_channel(front: Front, trusted: Pair, own: Pair | None = None) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(
        trusted.cert.read_bytes(),
        own.key.read_bytes() if own else None,
        own.cert.read_bytes() if own else None,
    )
    with grpc.secure_channel(f"127.0.0.1:{front.port}", credentials) as channel:
        yield channel


def infer(channel: grpc.Channel) -> object:
    return channel.unary_unary(INFER)(b"x", timeout=DEADLINE_S)


def test_calls_and_streams_pass_over_tls(pki: Pki) -> None:
    with (
        running_front(tls(pki)) as front,
        answering(front),
        secure_channel(front, pki.ca) as channel,
    ):
        assert infer(channel) == b"x"
        assert channel.unary_unary(OPERATE)(b"", timeout=DEADLINE_S) == b"2:"
        assert len(list(channel.stream_stream(STREAM)(iter([b"", b""]), timeout=DEADLINE_S))) == 2


def test_plaintext_and_a_client_that_does_not_trust_the_server_get_nothing(pki: Pki) -> None:
    with running_front(tls(pki)) as front, answering(front):
        with grpc.insecure_channel(f"127.0.0.1:{front.port}") as channel:
            assert failure(lambda: infer(channel))[0] is grpc.StatusCode.UNAVAILABLE
        with secure_channel(front, pki.other_ca) as channel:
            assert failure(lambda: infer(channel))[0] is grpc.StatusCode.UNAVAILABLE


def test_with_a_client_ca_only_its_clients_are_served(pki: Pki) -> None:
    with running_front(tls(pki, pki.ca.cert)) as front, answering(front):
        with secure_channel(front, pki.ca, pki.client) as channel:
            assert infer(channel) == b"x"
        for stranger in (None, pki.other_client):
            with secure_channel(front, pki.ca, stranger) as channel:
                assert failure(lambda: infer(channel))[0] is grpc.StatusCode.UNAVAILABLE


def test_tokens_apply_over_tls(pki: Pki, tmp_path: Path) -> None:
    with (
        running_front(tls(pki), tokens(tmp_path)) as front,
        answering(front),
        secure_channel(front, pki.ca) as channel,
    ):
        call = channel.unary_unary(INFER)
        metadata = [("authorization", "Bearer aaa")]
        assert call(b"x", metadata=metadata, timeout=DEADLINE_S) == b"x"
        code, _ = failure(lambda: infer(channel))
        assert code is grpc.StatusCode.UNAUTHENTICATED


def test_the_servers_own_way_in_needs_no_certificate_but_its_secret(pki: Pki) -> None:
    with running_front(tls(pki, pki.ca.cert)) as front, answering(front):
        channel, metadata = local_channel(front)
        with channel:
            call = channel.unary_unary(INFER)
            assert call(b"x", metadata=metadata, timeout=DEADLINE_S) == b"x"
            for wrong in ((), [("kedge-secret", "guess")], [("kedge-secret", "")]):
                code, text = failure(
                    lambda wrong=wrong: call(b"x", metadata=wrong, timeout=DEADLINE_S)
                )
                assert code is grpc.StatusCode.UNAUTHENTICATED
                assert front.local.secret not in text


@pytest.mark.parametrize(
    ("cert", "key", "client_ca", "message"),
    [
        ("server.pem", "client.key", None, "--tls-key .*client.key does not belong to --tls-cert"),
        ("gone.pem", "server.key", None, "cannot read --tls-cert .*gone.pem: No such file"),
        ("server.pem", "gone.key", None, "cannot read --tls-key .*gone.key: No such file"),
        ("server.pem", "server.key", "gone", "cannot read --tls-client-ca .*gone: No such file"),
        (".", "server.key", None, "cannot read --tls-cert .*: Is a directory"),
        ("text", "server.key", None, "are no PEM certificate chain and unencrypted PEM key"),
        ("server.pem", "text", None, "are no PEM certificate chain and unencrypted PEM key"),
        ("server.pem", "locked", None, "are no PEM certificate chain and unencrypted PEM key"),
        ("server.pem", "server.key", "text", "--tls-client-ca .* holds no PEM certificate"),
        ("server.pem", "server.key", "server.key", "--tls-client-ca .* holds no PEM certificate"),
        ("server.pem", "server.key", "binary", "--tls-client-ca .* holds no PEM certificate"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name_and_without_their_content(
    pki: Pki, cert: str, key: str, client_ca: str | None, message: str
) -> None:
    folder = pki.server.cert.parent
    (folder / "text").write_text("s3cret, no PEM\n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    (folder / "locked").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    settings = FrontSettings(
        tls_cert=folder / cert,
        tls_key=folder / key,
        tls_client_ca=folder / client_ca if client_ca else None,
    )
    with pytest.raises(ValueError, match=message) as caught:
        load_certificates(settings)
    assert "s3cret" not in str(caught.value)
