"""Reads what Kedge's /metrics page says about the benchmark's model."""

from __future__ import annotations

import re
import urllib.request

SAMPLE = re.compile(
    r"^kedge_codec_requests_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE
)


def codec_paths(address: str | None) -> dict[str, float]:
    """Requests decoded so far by path, "fast" (the Numba codec) or "protobuf"; {} without page."""
    if address is None:
        return {}
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
        return parse_codec_paths(page.read().decode())


def parse_codec_paths(page: str) -> dict[str, float]:
    """The samples of kedge_codec_requests_total, summed over models and versions."""
    counts: dict[str, float] = {}
    for sample in SAMPLE.finditer(page):
        if path := re.search(r'path="([^"]+)"', sample["labels"]):
            counts[path[1]] = counts.get(path[1], 0.0) + float(sample["value"])
    return counts
