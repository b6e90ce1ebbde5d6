"""AOTInductor packages (`.pt2` of `aoti_compile_and_package`): native code, called with checks.

A package is a shared library, so that loading one is running its author's code: only for what
Kedge compiled itself, or with --allow-model-code. Its own checks of inputs are off by default;
here they are on, and a package without them is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kedge.core.errors import LoadFailed
from kedge.core.values import ModelSchema
from kedge.executors.archive import open_archive
from kedge.executors.inputs import check_inputs, declared_bounds
from kedge.executors.rows import at_sizes
from kedge.executors.tensors import Forward, is_fixed, last_line
from kedge.executors.trees import argument_order, result_of

MODEL = "model"
CHECK_INPUTS = "AOTI_RUNTIME_CHECK_INPUTS"
# The words of the library's own checks: dimension 0 of a batched input is the rows.
_ROWS_FIXED = re.compile(r"unmatched dim value at 0, expected: (\d+)")
_ROWS_MIN = re.compile(r"dim value is too small at 0, expected it to be >= (\d+)")
_ROWS_MAX = re.compile(r"dim value is too large at 0, expected to be <= (\d+)")

Run = Callable[[list[torch.Tensor]], list[torch.Tensor]]


class Package(NamedTuple):
    """A loaded package. forward: for batches of any number of rows; rows: the least and the most
    that it runs at by itself.
    """

    forward: Forward
    rows: tuple[int, int]


def load_aotinductor(
    path: Path,
    schema: ModelSchema,
    device_index: int = -1,
    known_rows: tuple[int, int] | None = None,
) -> Package:
    """The package as a function of its inputs, each checked before the call.

    device_index: of a CUDA package. known_rows: `rows` of the same package loaded before; without
    it the package is asked, and prints each refusal to stderr. Raises LoadFailed with the reason.
    """
    for spec in (*schema.inputs, *schema.outputs):
        if not spec.datatype.is_fixed_size:
            raise LoadFailed(f"{path}: '{spec.name}' is BYTES, an AOTInductor package has tensors")
    open_archive(path).close()
    run, in_spec, out_spec, device = _open(path, device_index)
    order = argument_order(in_spec, schema)
    result = result_of(out_spec)
    if known_rows is None:
        _require_checks(path, run, schema, order, device)
        known_rows = _rows(path, run, schema, order, device) if schema.batched else (1, 1)
    bounds = declared_bounds(schema, known_rows)

    def forward(*inputs: Any) -> object:
        check_inputs(bounds, inputs)
        return result(run([inputs[i] for i in order]))

    if not schema.batched:
        return Package(forward, known_rows)
    return Package(at_sizes(forward, range(known_rows[0], known_rows[1] + 1)), known_rows)


def _open(path: Path, device_index: int) -> tuple[Run, str, str, str]:
    """The function, how its arguments and results nest, and its device type."""
    # Read by the library itself, once, at its first call.
    os.environ[CHECK_INPUTS] = "1"
    try:
        # What the public loader calls after 2.5 s of importing the compiler; this takes 5 ms.
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), MODEL, False, 1, device_index)
    except (AttributeError, TypeError):
        from torch._inductor import aoti_load_package  # noqa: PLC0415

        loader = aoti_load_package(str(path), device_index=device_index).loader
    in_spec, out_spec = loader.get_call_spec()
    device = loader.get_metadata().get("AOTI_DEVICE_KEY", "cpu")
    return loader.run, in_spec, out_spec, device


def _require_checks(
    path: Path, run: Run, schema: ModelSchema, order: Sequence[int], device: str
) -> None:
    """Raise LoadFailed unless inputs of another dtype, each as long or longer, are refused."""
    wrong = [
        tensor.to(torch.int64 if tensor.dtype is torch.float64 else torch.float64)
        for tensor in _zeros(schema, schema.rows_max, order, device)
    ]
    try:
        run(wrong)
    except RuntimeError as error:
        if "unmatched dtype" in str(error):
            return
        raise LoadFailed(f"{path}: {last_line(error)}") from None
    raise LoadFailed(
        f"{path}: the package does not check its inputs, and would read past a wrong one; compile "
        "it with the torch that is installed here"
    )


def _rows(
    path: Path, run: Run, schema: ModelSchema, order: Sequence[int], device: str
) -> tuple[int, int]:
    """The least and the most rows that the package takes, found by asking; not more than `rows_max`
    unless it takes no fewer.
    """
    least = 1
    while (refusal := _refusal(run, _zeros(schema, least, order, device))) is not None:
        fixed, more = _ROWS_FIXED.search(refusal), _ROWS_MIN.search(refusal)
        if fixed:
            return int(fixed[1]), int(fixed[1])
        if not more or int(more[1]) <= least:
            # With free dimensions no shape is known to be legal: the package checks every call.
            if is_fixed(schema):
                raise LoadFailed(f"{path}: {refusal}")
            break
        least = int(more[1])
    most = max(schema.rows_max, least)
    fewer = _ROWS_MAX.search(_refusal(run, _zeros(schema, most, order, device)) or "")
    return least, int(fewer[1]) if fewer else most


def _refusal(run: Run, tensors: list[torch.Tensor]) -> str | None:
    try:
        run(tensors)
    except RuntimeError as error:
        return last_line(error)
    return None


def _zeros(schema: ModelSchema, rows: int, order: Sequence[int], device: str) -> list[torch.Tensor]:
    """Inputs of `rows` rows with free dimensions of 1, in the package's order."""
    bounds = declared_bounds(schema, (rows, rows))
    return [
        torch.zeros([max(least, 1) for least, _ in bounds[i].dims], dtype=bounds[i].dtype).to(
            device
        )
        for i in order
    ]
