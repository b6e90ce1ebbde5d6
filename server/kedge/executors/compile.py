"""Which way of running an exported or Python model is the fastest here: tried once, then known.

Eager, frozen TorchScript and AOTInductor are compared in answers first and in time second. The
choice and the compiled package are kept per content and machine (`choices.py`), so that replicas do
not differ and no later start compiles.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from kedge.core.errors import LoadFailed
from kedge.core.settings import Compile
from kedge.core.values import ModelFormat, ModelSchema, VersionManifest
from kedge.executors.aotinductor import Package, load_aotinductor
from kedge.executors.choices import PACKAGE, Choice, choose_once
from kedge.executors.exported import (
    Program,
    export_module,
    exported_forward,
    load_exported,
    program_call,
)
from kedge.executors.local import enter_inference_mode
from kedge.executors.python_module import load_python
from kedge.executors.tensors import Forward, last_line, random_inputs, tensors_of

# A large graph takes minutes on a busy machine.
COMPILE_S_MAX = 600
# Medians of so many interleaved runs each, fewer if the model is slow.
ROUNDS = 15
ROUNDS_S_MAX = 3.0
# Two sizes for dimensions that may have any: a trace that has kept one of them is found out.
FREE_SIZES = (8, 13)
# Of float32; other orders of additions differ in the last digits.
RELATIVE, ABSOLUTE = 1e-3, 1e-5
RELATIVE_OF = {torch.float16: 2e-2, torch.bfloat16: 5e-2, torch.float64: 1e-6}


def fastest(
    manifest: VersionManifest, found: ModelFormat, device: str, state_dir: Path | None
) -> Forward:
    """The exported or Python model as `compile` asks for it. Raises LoadFailed with the reason.

    state_dir: where choices are kept; without it, or a C++ compiler, nothing is compiled. On
    another device than the CPU, and for models with BYTES, the module runs as it is.
    """
    ways = _Ways(manifest, found, device)
    asked = manifest.execution.compile
    has_strings = any(
        not spec.datatype.is_fixed_size
        for spec in (*manifest.schema.inputs, *manifest.schema.outputs)
    )
    if asked is Compile.NONE or has_strings or device != "cpu":
        return ways.eager
    obstacle = _obstacle(state_dir)
    if asked is Compile.AOTINDUCTOR and obstacle:
        raise LoadFailed(f"{manifest.path}: compile: aotinductor needs {obstacle}")
    if state_dir is None or asked is Compile.TORCHSCRIPT:
        choice = _compare(ways, None)
    else:

        def decide(folder: Path) -> Choice:
            return _compare(ways, None if obstacle else folder)

        folder, choice = choose_once(manifest, state_dir, decide)
        if choice.chosen == Compile.AOTINDUCTOR.value:
            return ways.aotinductor(folder / PACKAGE, choice.package_rows).forward
    if asked is not Compile.AUTO and choice.chosen != asked.value:
        reason = choice.refused.get(asked.value, "it was not tried")
        raise LoadFailed(f"{manifest.path}: compile: {asked.value}: {reason}")
    return ways.torchscript() if choice.chosen == Compile.TORCHSCRIPT.value else ways.eager


class _Ways:
    """One model, and the ways to run it; each is made when it is asked for."""

    def __init__(self, manifest: VersionManifest, found: ModelFormat, device: str) -> None:
        self.manifest = manifest
        self.schema: ModelSchema = manifest.schema
        self.format = found
        self._inputs = [(spec.datatype.name, spec.dims) for spec in self.schema.inputs]
        self._rows = self.schema.rows_max if self.schema.batched else 0
        self._program: Program | None = None
        self._module: torch.nn.Module | None = None
        if found is ModelFormat.EXPORTED:
            self._program = load_exported(manifest.path, device)
            self.eager = self._around(self._program, program_call(self._program))
        else:
            self._module = load_python(manifest.path, device)
            self.eager = self._module

    def _around(self, program: Program, call: Forward) -> Forward:
        return exported_forward(program, self.schema, call)

    def torchscript(self) -> Forward:
        """A frozen trace of the program. Raises what torch raises.

        Never of a Python module itself: a trace keeps the branch that its example took, and no
        comparison finds every other one. torch.export refuses such a module.
        """
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            program = self._program
            if program is None:
                assert self._module is not None
                program = export_module(self._module, self._inputs, self._rows)
            inputs = random_inputs(self.schema, self.schema.rows_max, FREE_SIZES[0])
            example = tuple(inputs[i].clone() for i in program.order(self.schema))
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                _Traceable(program), example, strict=False, check_trace=False
            )
            frozen = torch.jit.freeze(traced.eval())
        return self._around(program, frozen.forward)

    def aotinductor(self, package: Path, rows: tuple[int, int] | None = None) -> Package:
        """A package that Kedge compiled; rows: as found when it was new. Raises LoadFailed."""
        loaded = load_aotinductor(package, self.schema, known_rows=rows)
        if self._program is None:
            return loaded
        # It checks ranges, not the guards of the program that it was made of.
        order = self._program.order(self.schema)

        def in_order(*arguments: object) -> object:
            return loaded.forward(*(arguments[order.index(i)] for i in range(len(order))))

        return Package(self._around(self._program, in_order), loaded.rows)

    def compile(self, package: Path) -> None:
        """Compile to `package`, in a process of its own: the compiler takes 500 MB, and may crash.

        Raises LoadFailed with the compiler's reason.
        """
        task = {
            "format": self.format.value,
            "path": str(self.manifest.path.resolve()),
            "package": str(package),
            "inputs": self._inputs,
            "rows": self._rows,
        }
        command = [sys.executable, "-m", "kedge.executors.compile_process", json.dumps(task)]
        with tempfile.TemporaryDirectory(dir=package.parent) as cache:
            environ = {
                **os.environ,
                "TORCHINDUCTOR_CACHE_DIR": cache,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            }
            try:
                done = subprocess.run(  # noqa: S603 - our own module
                    command,
                    env=environ,
                    capture_output=True,
                    text=True,
                    timeout=COMPILE_S_MAX,
                    check=False,
                    stdin=subprocess.DEVNULL,
                )
            except subprocess.TimeoutExpired:
                raise LoadFailed(f"the compiler took longer than {COMPILE_S_MAX} s") from None
        if done.returncode or not package.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise LoadFailed(f"the compiler failed: {lines[-1] if lines else done.returncode}")


class _Traceable(torch.nn.Module):
    """A program as a module without the hooks on its call, which a trace cannot take."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program.module
        self._call = program_call(program)

    def forward(self, *inputs: torch.Tensor) -> object:
        return self._call(*inputs)


def _compare(ways: _Ways, folder: Path | None) -> Choice:
    """Try what applies; folder: where a package may be compiled to, None to compile none."""
    enter_inference_mode()
    asked = ways.manifest.execution.compile
    made: dict[str, Forward] = {Compile.NONE.value: ways.eager}
    refused: dict[str, str] = {}
    package_rows: tuple[int, int] | None = None
    makers: dict[Compile, Callable[[], Forward]] = {Compile.TORCHSCRIPT: ways.torchscript}
    if folder is not None:
        package = folder / PACKAGE

        def compiled() -> Forward:
            nonlocal package_rows
            ways.compile(package)
            loaded = ways.aotinductor(package)
            package_rows = loaded.rows
            return loaded.forward

        makers[Compile.AOTINDUCTOR] = compiled
    for way, make in makers.items():
        if asked not in (Compile.AUTO, way):
            continue
        try:
            forward = make()
            difference = _difference(ways, forward)
        except Exception as error:
            difference = last_line(error)
        if difference:
            refused[way.value] = difference
        else:
            made[way.value] = forward
    times = _measure(ways.schema, made)
    candidates = dict(times)
    if asked is not Compile.AUTO and asked.value in made:
        candidates = {asked.value: times[asked.value]}
    chosen = min(candidates, key=lambda way: candidates[way][0] * candidates[way][1])
    return Choice(chosen, times, refused, package_rows)


def _difference(ways: _Ways, forward: Forward) -> str:
    """Where `forward` answers otherwise than the module itself; "" if nowhere."""
    rows_max = ways.schema.rows_max
    compared = 0
    for size in FREE_SIZES:
        for rows in sorted({1, min(2, rows_max), rows_max}):
            for zeros in (True, False):
                inputs = random_inputs(ways.schema, rows, size)
                if zeros:
                    inputs = [torch.zeros_like(tensor) for tensor in inputs]
                try:
                    expected = list(tensors_of(ways.eager(*inputs)))
                except Exception:  # noqa: S112 - no legal input, which happens with free dimensions
                    continue
                got = list(tensors_of(forward(*inputs)))
                compared += 1
                if len(got) != len(expected) or not all(map(_is_close, got, expected)):
                    return f"other answers than the module itself at {rows} rows"
    return "" if compared else "no input was found that the model takes"


def _is_close(got: torch.Tensor, expected: torch.Tensor) -> bool:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if not expected.dtype.is_floating_point:
        return torch.equal(got, expected)
    relative = RELATIVE_OF.get(expected.dtype, RELATIVE)
    scale = float(expected.abs().nan_to_num(0, 0, 0).max()) if expected.numel() else 0.0
    absolute = max(ABSOLUTE, relative * scale * 0.01)
    return torch.allclose(got, expected, rtol=relative, atol=absolute, equal_nan=True)


def _measure(schema: ModelSchema, made: Mapping[str, Forward]) -> dict[str, tuple[float, float]]:
    """Median times in us of one row and of a full batch, by way, runs interleaved."""
    batches = [random_inputs(schema, rows, FREE_SIZES[0]) for rows in (1, schema.rows_max)]
    runs: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in made}
    end_s = time.perf_counter() + ROUNDS_S_MAX
    for number in range(ROUNDS):
        for way, forward in made.items():
            for batch, times in zip(batches, runs[way], strict=True):
                start_s = time.perf_counter()
                # A refusal, which happens as above, takes its time as well.
                with contextlib.suppress(Exception):
                    forward(*batch)
                times.append((time.perf_counter() - start_s) * 1e6)
        if number >= 2 and time.perf_counter() > end_s:
            break
    return {
        way: (round(statistics.median(row), 2), round(statistics.median(batch), 2))
        for way, (row, batch) in runs.items()
    }


def _obstacle(state_dir: Path | None) -> str:
    """What is missing to compile; "" if nothing."""
    if state_dir is None:
        return "a state folder"
    compiler = os.environ.get("CXX", "g++")
    return "" if shutil.which(compiler) else f"the C++ compiler {compiler}, which is not installed"
