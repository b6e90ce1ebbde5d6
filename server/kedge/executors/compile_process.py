"""Compiles one model to an AOTInductor package: `python -m kedge.executors.compile_process TASK`.

A process of its own, run by `compile.py`. TASK: JSON with `format`, `path`, `package` (where to),
`inputs` (pairs of datatype and per-row dimensions) and `rows` (most rows, 0: no batch dimension).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from kedge.core.values import ModelFormat
from kedge.executors.exported import export_module, load_exported
from kedge.executors.python_module import load_python


def main(task: dict[str, Any]) -> None:
    """Raises what the compiler raises."""
    path = Path(task["path"])
    if task["format"] == ModelFormat.EXPORTED.value:
        exported = load_exported(path).exported
        exported.example_inputs = _example(exported)
    else:
        exported = export_module(load_python(path), task["inputs"], task["rows"]).exported
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(exported, package_path=task["package"])


def _example(exported: torch.export.ExportedProgram) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Zeros of the sizes that the program was exported with: its file's own are never read."""
    nodes = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    flat = []
    for name in exported.graph_signature.user_inputs:
        value = nodes[str(name)].meta["val"]
        sizes = [size if isinstance(size, int) else size.node.hint for size in value.shape]
        flat.append(torch.zeros(sizes, dtype=value.dtype))
    args, kwargs = torch.utils._pytree.tree_unflatten(flat, exported.call_spec.in_spec)
    return args, kwargs


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
