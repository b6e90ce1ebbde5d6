"""The methods that a front serves, by their gRPC paths `/package.Service/Method`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Methods:
    """infer: unary, delivered in columns; stream: its bidirectional twin, of which every message is
    an inference; others: unary, with the roles that may call them, in the order of `Call.method`.
    """

    infer: str
    stream: str
    others: Mapping[str, frozenset[str]]
