"""Reads counters from a server's Prometheus page."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

SAMPLE = re.compile(
    r"^(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)(?: \d+)?$", re.MULTILINE
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
CODEC_REQUESTS = "kedge_codec_requests_total"


def codec_paths(address: str | None) -> dict[str, float]:
    """Requests decoded so far by path, "fast" (the Numba codec) or "protobuf"; {} without page."""
    return {} if address is None else parse_codec_paths(read_page(address))


def parse_codec_paths(page: str) -> dict[str, float]:
    """The samples of kedge_codec_requests_total, summed over models and versions."""
    counts: dict[str, float] = {}
    for labels, value in samples(page, CODEC_REQUESTS):
        if path := labels.get("path"):
            counts[path] = counts.get(path, 0.0) + value
    return counts


def metric_sum(address: str, name: str, **wanted: str) -> float:
    """The sum of a metric's samples whose labels have the wanted values; 0 if there are none."""
    found = samples(read_page(address), name)
    return sum(value for labels, value in found if wanted.items() <= labels.items())


def samples(page: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Labels and value of each sample of one metric."""
    for sample in SAMPLE.finditer(page):
        if sample["name"] == name:
            yield dict(LABEL.findall(sample["labels"] or "")), float(sample["value"])


def read_page(address: str) -> str:
    """The text that HOST:PORT/metrics answers."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
        text: str = page.read().decode()
    return text
