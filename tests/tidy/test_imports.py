"""The import rules of docs/ARCHITECTURE.md: one direction, parts apart, one owner per heavy
library.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"kedge": ROOT / "server" / "kedge", "kedge_kernels": ROOT / "kernels" / "kedge_kernels"}
PARTS = {
    "front",
    "pipeline",
    "executors",
    "models",
    "config",
    "control",
    "monitoring",
    "client",
    "workers",
    "store",
}
RANKS = {"kedge_kernels": 0, "proto": 1, "core": 1, "process": 2, "app": 4, "cli": 5}
PART_RANK = 3
# Besides app.py: where the parts of the HTTP process are joined.
JOINERS = {"control/http/__main__.py"}
OWNERS = {
    "numba": {"kedge_kernels"},
    "llvmlite": {"kedge_kernels"},
    "pygrpc_native": {"front"},
    "grpc": {"front", "client", "control", "cli"},
    "torch": {"executors", "cli"},
    "pydantic": {"config"},
    "yaml": {"config", "cli"},
    "starlette": {"control"},
    "uvicorn": {"control"},
    "prometheus_client": {"monitoring"},
    "google": {"proto", "control", "models", "pipeline", "client", "config", "cli"},
    "fsspec": {"store"},
    "click": {"cli"},
    "rich": {"cli"},
    "pyarrow": {"kedge_kernels", "monitoring"},
    "plotly": {"monitoring"},
    "datasketches": {"kedge_kernels"},
}
# What the core may not do: look at a clock, a disk, a network or another process.
EFFECTS = {"asyncio", "time", "random", "os", "socket", "logging", "threading", "subprocess"}
PURE_EXCEPT = {"clock.py"}


def files() -> Iterator[tuple[str, Path]]:
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            yield package, path


def room_of(package: str, path: Path) -> str:
    """The folder (or single file) directly under the package that a source file belongs to."""
    if package == "kedge_kernels":
        return package
    inner = path.relative_to(SOURCES[package])
    if inner.as_posix() in JOINERS:
        return "app"
    return inner.parts[0].removesuffix(".py")


def imports_of(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
            if node.module == "kedge":
                for alias in node.names:
                    if alias.name != "__version__":
                        yield node.lineno, f"kedge.{alias.name}"


def rank_of(room: str) -> int:
    return PART_RANK if room in PARTS else RANKS[room]


def broken_rules(room: str, path: Path, source: str) -> Iterator[str]:
    if room == "__init__":
        return
    for line, module in imports_of(source):
        where = f"{path}:{line}: {room} imports {module}"
        top = module.split(".")[0]
        if top in OWNERS and room not in OWNERS[top]:
            yield f"{where}, which belongs to {sorted(OWNERS[top])}"
        if room == "core" and top in EFFECTS and path.name not in PURE_EXCEPT:
            yield f"{where}, but the core is pure"
        if top not in SOURCES:
            continue
        parts = module.split(".")
        target = "kedge_kernels" if top == "kedge_kernels" else [*parts, "__init__"][1]
        if target in (room, "__init__"):
            continue
        if rank_of(target) > rank_of(room):
            yield f"{where}, which is above it"
        if target in PARTS and room in PARTS:
            yield f"{where}; parts meet only in core/ports.py"


def test_every_folder_has_a_rank() -> None:
    rooms = {room_of(package, path) for package, path in files()} - {"__init__"}
    assert rooms <= PARTS | RANKS.keys()


def test_imports_go_one_way_and_heavy_libraries_have_one_owner() -> None:
    broken = [
        line
        for package, path in files()
        for line in broken_rules(room_of(package, path), path, path.read_text())
    ]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("room", "source", "expected"),
    [
        ("pipeline", "import torch", "belongs to"),
        ("pipeline", "from kedge.front.native import NativeFront", "parts meet only"),
        ("core", "from kedge.pipeline import serve", "above it"),
        ("core", "import time", "the core is pure"),
        ("front", "from kedge.app import serve", "above it"),
    ],
)
def test_a_broken_rule_is_found(room: str, source: str, expected: str) -> None:
    assert any(expected in line for line in broken_rules(room, Path("example.py"), source))
