"""Reads what TLS needs, and says clearly what is wrong with it before anyone connects."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from kedge.core.settings import FrontSettings


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM bytes. client_ca: b"" when clients need no certificate."""

    chain: bytes
    key: bytes
    client_ca: bytes


def load_certificates(settings: FrontSettings) -> Certificates | None:
    """Read once, at the start; None without TLS.

    Raises ValueError, which names the option and the file, for one that cannot be read, is no PEM
    of its kind, or a key that does not belong to the certificate.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    chain = _read("--tls-cert", settings.tls_cert)
    key = _read("--tls-key", settings.tls_key)
    client_ca = b""
    if settings.tls_client_ca is not None:
        client_ca = _read("--tls-client-ca", settings.tls_client_ca)
        _check_ca(settings.tls_client_ca, client_ca)
    _check_pair(settings.tls_cert, settings.tls_key)
    return Certificates(chain, key, client_ca)


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {option} {path}: {error.strerror}") from None


def _check_pair(cert: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password given here, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"--tls-key {key} does not belong to --tls-cert {cert}") from None
        raise ValueError(
            f"--tls-cert {cert} and --tls-key {key} are no PEM certificate chain and unencrypted "
            f"PEM key: {error.reason or error}"
        ) from None


def _check_ca(path: Path, content: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError):
        raise ValueError(f"--tls-client-ca {path} holds no PEM certificate") from None
    if not context.cert_store_stats()["x509"]:
        raise ValueError(f"--tls-client-ca {path} holds no PEM certificate")
