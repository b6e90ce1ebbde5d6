"""All counters of the gateway at one moment, as JSON for the process that renders metrics.

    {"ready": bool, "draining": bool,
     "process": {...},                      what the application adds
     "models": [{"name": str, "version": str,
                 "statistics": {...}}]}     by name and version; the fields of VersionStatistics

A DurationCount is {"count": int, "ns": int}; keys of batch_sizes are decimal strings, as JSON has
no others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from kedge.core.values import Catalog, Runtime


def snapshot_json(
    catalog: Catalog[Runtime], *, ready: bool, draining: bool, process: Mapping[str, object]
) -> bytes:
    """The document above. process: values that JSON has."""
    document = {
        "ready": ready,
        "draining": draining,
        "process": process,
        "models": [
            {
                "name": served.ref.name,
                "version": str(served.ref.version),
                "statistics": asdict(served.statistics),
            }
            for served in catalog.versions()
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()
