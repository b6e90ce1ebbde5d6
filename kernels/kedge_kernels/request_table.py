"""Which requests are expected: plans as people write them, and packed for the scanning kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from kedge_kernels._jit import kernel
from kedge_kernels._packing import Packer, record
from kedge_kernels.fields import INPUTS
from kedge_kernels.memory import BYTES_TYPE, as_pointer, load_byte, same_bytes

# Bits of an int64 that leave its sign alone.
OUTPUTS_MAX = 62
# Inputs in another order are searched one by one: 64 of them cost 20 us, 1,000 would cost 5 ms.
INPUTS_MAX = 64
# Of single dimensions, too: a product of two such factors fits an int64, and no message of less
# than protobuf's 2 GiB holds more elements.
ELEMENTS_MAX = 2**31 - 1
ITEM_BYTES_MAX = 16


@dataclass(frozen=True)
class InputPlan:
    """A declared input. datatype: the wire's word for it; item_bytes: per element, 0 if elements
    carry their own length (BYTES); dims: without the batch dimension, -1 = any size.
    """

    name: str
    datatype: str
    item_bytes: int
    dims: tuple[int, ...]


@dataclass(frozen=True)
class RequestPlan:
    """A model version that is served. newest: it gets the requests that name no version. outputs:
    names in the model's order. batched: shapes begin with the number of rows, 1..rows_max.
    """

    name: str
    version: int
    newest: bool
    inputs: tuple[InputPlan, ...]
    outputs: tuple[str, ...]
    batched: bool
    rows_max: int

    @property
    def is_fast(self) -> bool:
        """Whether the codec can read its requests at all; if not, every one of them falls back."""
        return (
            0 < len(self.inputs) <= INPUTS_MAX
            and len(self.outputs) <= OUTPUTS_MAX
            and all(0 < tensor.item_bytes <= ITEM_BYTES_MAX for tensor in self.inputs)
        )


# The packed tables. Text is two columns, address and bytes; `_start` is a row of the next table.
SLOT_RECORD = record("plan", "version", "version_bytes")  # plan: -1 in a free slot
PLAN_RECORD = record(
    *("name", "name_bytes", "is_fast", "batched", "rows_max"),
    *("inputs", "inputs_start", "outputs", "outputs_start"),
)
INPUT_RECORD = record(
    *("name", "name_bytes", "datatype", "datatype_bytes"),
    *("item_bytes", "rank", "dims_start", "dims_column"),
)
OUTPUT_RECORD = record("name", "name_bytes")
INT64 = np.dtype(np.int64)


class RequestTable:
    """All plans, found by model name and version: immutable, may be empty.

    width: columns of a fields array; dims_start: the first column of the input dimensions. Raises
    ValueError if two plans answer to the same name and version.
    """

    def __init__(self, plans: Sequence[RequestPlan]) -> None:
        self.plans = tuple(plans)
        inputs_most = max((len(plan.inputs) for plan in plans), default=0)
        dims_most = max((_rank_sum(plan.inputs) for plan in plans), default=0)
        self.dims_start = INPUTS + 2 * inputs_most
        order_start = self.dims_start + dims_most
        self.width = order_start + inputs_most
        self._packer = Packer()
        self.packed = self._packer.packed(
            BYTES_TYPE,
            order_start,
            self._packer.table(self._slots(), SLOT_RECORD),
            *self._plan_tables(),
        )

    def _slots(self) -> list[tuple[int, int, int]]:
        """An open hash table, at most half full: a power of two of slots."""
        keys: dict[tuple[str, str], int] = {}
        for index, plan in enumerate(self.plans):
            for version in ("", str(plan.version)) if plan.newest else (str(plan.version),):
                if (plan.name, version) in keys:
                    raise ValueError(f"two plans for model {plan.name!r}, version {version!r}")
                keys[plan.name, version] = index
        slots = [(-1, 0, 0)] * (1 << (2 * len(keys)).bit_length())
        for (name, version), index in keys.items():
            version_text = self._packer.text(version)
            slot = hash_key(*self._packer.text(name), *version_text) % len(slots)
            while slots[slot][0] >= 0:
                slot = (slot + 1) % len(slots)
            slots[slot] = (index, *version_text)
        return slots

    def _plan_tables(self) -> list[tuple[int, int]]:
        plans: list[tuple[int, ...]] = []
        inputs: list[tuple[int, ...]] = []
        outputs: list[tuple[int, ...]] = []
        dims: list[int] = []
        text = self._packer.text
        for plan in self.plans:
            rows_max = min(plan.rows_max, ELEMENTS_MAX)
            spans = (len(plan.inputs), len(inputs), len(plan.outputs), len(outputs))
            plans.append((*text(plan.name), plan.is_fast, plan.batched, rows_max, *spans))
            dims_column = self.dims_start
            for tensor in plan.inputs:
                names = (*text(tensor.name), *text(tensor.datatype))
                shape = (len(tensor.dims), len(dims), dims_column)
                inputs.append((*names, tensor.item_bytes, *shape))
                dims += tensor.dims
                dims_column += len(tensor.dims)
            outputs += [text(name) for name in plan.outputs]
        return [
            self._packer.table(plans, PLAN_RECORD),
            self._packer.table(inputs, INPUT_RECORD),
            self._packer.table(outputs, OUTPUT_RECORD),
            self._packer.table(dims, INT64),
        ]


def _rank_sum(inputs: Sequence[InputPlan]) -> int:
    return sum(len(tensor.dims) for tensor in inputs)


class OpenTable(NamedTuple):
    """A packed RequestTable as kernels see it."""

    bytes_type: int
    order_start: int
    slots: NDArray[Any]
    plans: NDArray[Any]
    inputs: NDArray[Any]
    outputs: NDArray[Any]
    dims: NDArray[np.int64]


@kernel
def open_table(packed: NDArray[np.int64]) -> OpenTable:
    """The tables behind `RequestTable.packed`."""
    return OpenTable(
        packed[0],
        packed[1],
        carray(as_pointer(packed[2]), packed[3], SLOT_RECORD),
        carray(as_pointer(packed[4]), packed[5], PLAN_RECORD),
        carray(as_pointer(packed[6]), packed[7], INPUT_RECORD),
        carray(as_pointer(packed[8]), packed[9], OUTPUT_RECORD),
        carray(as_pointer(packed[10]), packed[11], INT64),
    )


@kernel
def hash_key(name: int, name_bytes: int, version: int, version_bytes: int) -> int:
    """FNV-1a of a model's name and version; 0..2**63 - 1."""
    code = -3750763034362895579  # 0xcbf29ce484222325
    for position in range(name, name + name_bytes):
        code = (code ^ load_byte(position)) * 0x100000001B3
    for position in range(version, version + version_bytes):
        code = (code ^ load_byte(position)) * 0x100000001B3
    return code & 0x7FFFFFFFFFFFFFFF


@kernel
def find_plan(
    name: int, name_bytes: int, version: int, version_bytes: int, table: OpenTable
) -> int:
    """Index of the plan with this name (address and bytes) and version, or -1."""
    slot = hash_key(name, name_bytes, version, version_bytes)
    while True:
        slot &= table.slots.size - 1
        key = table.slots[slot]
        index: int = key.plan
        if index < 0:
            return -1
        plan = table.plans[index]
        is_named = is_text(name, name_bytes, plan.name, plan.name_bytes)
        if is_named and is_text(version, version_bytes, key.version, key.version_bytes):
            return index
        slot += 1


@kernel
def is_text(left: int, left_bytes: int, right: int, right_bytes: int) -> bool:
    """Whether two texts, each by address and length, are the same."""
    return left_bytes == right_bytes and same_bytes(left, right, left_bytes)
