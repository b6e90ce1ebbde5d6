"""Certificates for tests, made by OpenSSL's own program: P-256, valid for a day."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Pair(NamedTuple):
    """PEM files of a certificate and its key."""

    cert: Path
    key: Path


def authority(folder: Path, name: str) -> Pair:
    """A self-signed certificate that may sign others."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        "req", "-x509", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", pair.cert
    )
    return pair


def signed(folder: Path, name: str, by: Pair) -> Pair:
    """A certificate of 127.0.0.1 and localhost, good for servers and clients."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, names = folder / f"{name}.csr", folder / f"{name}.ext"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl("req", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request)
    _openssl(
        "x509", "-req", "-in", request, "-CA", by.cert, "-CAkey", by.key, "-CAcreateserial",
        "-days", "1", "-extfile", names, "-out", pair.cert,
    )  # fmt: skip
    return pair


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr
