"""The Prometheus text format 0.0.4. Pure; knows no metric.

Written here because prometheus_client appends `_total` to every counter, and Triton's have none.
Source: prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Kind = Literal["counter", "gauge", "histogram"]


class Sample(NamedTuple):
    """One line. suffix: what a histogram appends to the family's name, as `_bucket`."""

    labels: Mapping[str, str]
    value: int | float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one metric. help: one sentence that tells an operator what is counted."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


def exposition(families: Iterable[Family]) -> bytes:
    """The families in their order, each with HELP and TYPE, as UTF-8."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape_help(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            lines.append(f"{family.name}{sample.suffix}{_labels(sample.labels)} {sample.value!r}")
    return "".join(f"{line}\n" for line in lines).encode()


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{_escape_value(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")
