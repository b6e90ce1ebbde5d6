"""Tries what may take long, or end the process:

    python -m kedge.cli.probe [--allow-model-code] STATE TARGET...

Run by `kedge doctor` in a process of its own. Prints one JSON line per try, as soon as it is done:
`{"name": ..., "error": ..., "seconds": ..., "detail": ...}`; error is "" if it worked. What models
are fetched from URLs goes to the state folder STATE, where `kedge serve` finds it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

from kedge.cli.models import ALLOW_MODEL_CODE, place_of, read_targets
from kedge.core.errors import ServeError
from kedge.core.values import VersionManifest


def main(arguments: list[str]) -> None:
    """Import torch, make the kernels ready, load and run every model version once."""
    allow_model_code = ALLOW_MODEL_CODE in arguments
    state_dir, *targets = (argument for argument in arguments if argument != ALLOW_MODEL_CODE)
    # A model may print; what it prints goes to stderr, so that stdout has nothing but our lines.
    with os.fdopen(os.dup(1), "w") as results:
        os.dup2(2, 1)
        _try("torch", _import_torch, results)
        _try("kernels", _warm_kernels, results)
        manifests, _ = read_targets(list(map(Path, targets)))
        for manifest in manifests:
            _try(
                str(manifest.ref),
                partial(_load, Path(state_dir), manifest, allow_model_code),
                results,
            )


def _try(name: str, attempt: Callable[[], str], results: TextIO) -> None:
    start_s = time.perf_counter()
    try:
        detail, error = attempt(), ""
    except Exception as failure:  # whatever it is, doctor has to tell it
        kind = "" if isinstance(failure, ServeError) else f"{type(failure).__name__}: "
        # The first line says it; TorchScript appends pages of its own stack.
        detail, error = "", f"{kind}{failure}".strip().splitlines()[0]
    seconds = round(time.perf_counter() - start_s, 3)
    line = {"name": name, "error": error, "seconds": seconds, "detail": detail}
    print(json.dumps(line), file=results, flush=True)


def _import_torch() -> str:
    import torch  # noqa: PLC0415 - its failure is a finding

    return str(torch.__version__)


def _warm_kernels() -> str:
    from kedge_kernels.codec import warm  # noqa: PLC0415 - its failure is a finding

    warm()
    modules = [module for name, module in sys.modules.items() if name.startswith("kedge_kernels.")]
    statistics = [
        value.stats
        for module in modules
        for value in vars(module).values()
        if hasattr(value, "stats")
    ]
    folder = next((str(one.cache_path) for one in statistics if one.cache_path), "")
    if not folder:
        return "compiled at every start: no cache folder is writable, set NUMBA_CACHE_DIR"
    if any(one.cache_misses for one in statistics):
        return f"compiled now; later starts take them from {folder}"
    return f"from cache {folder}"


def _load(state_dir: Path, manifest: VersionManifest, allow_model_code: bool) -> str:
    from kedge.core.settings import StoreLimits  # noqa: PLC0415

    # Imports torch. What the server itself calls, so that what passes here also serves.
    from kedge.executors.make import make_executor  # noqa: PLC0415
    from kedge.store.models import ModelStore  # noqa: PLC0415

    located = ModelStore(state_dir, StoreLimits()).fetch(manifest)
    devices = sorted(set(manifest.execution.devices))
    for device in devices:
        make_executor(located, device, allow_model_code=allow_model_code).close()
    return f"loads and runs on {', '.join(devices)}: {place_of(manifest)}"


if __name__ == "__main__":
    main(sys.argv[1:])
