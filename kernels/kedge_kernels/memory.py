"""Memory by address: what lets a kernel read `bytes` objects in place and copy at memcpy's speed.

Nothing here checks an address: callers prove that it lies inside an object that somebody keeps
alive. The intrinsics exist only compiled; NUMBA_DISABLE_JIT=1 cannot run the code that uses them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kedge_kernels._jit import kernel

BYTES_TYPE = id(bytes)
TYPE_OFFSET = 8
SIZE_OFFSET = 16
DATA_OFFSET = bytes.__basicsize__ - 1  # the basic size counts the NUL behind the data


def check_layout() -> None:
    """ImportError unless `bytes` objects lie in memory as those of CPython 3.11 to 3.14 do."""
    probe = b"kedge reads this in place"
    if bytes.__basicsize__ == 33:
        header = ctypes.string_at(id(probe) + TYPE_OFFSET, 16)
        data = ctypes.string_at(id(probe) + DATA_OFFSET, len(probe))
        if np.frombuffer(header, np.int64).tolist() == [BYTES_TYPE, len(probe)] and data == probe:
            return
    raise ImportError(
        "kedge_kernels reads bytes objects in place, which needs a 64-bit CPython with the GIL; "
        "the layout of this interpreter's objects is another one"
    )


check_layout()

_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new_bytes.restype = ctypes.py_object


def address_of(data: bytes) -> int:
    """Where the contents of `data` begin; valid while `data` lives."""
    return id(data) + DATA_OFFSET


def identities(objects: Collection[bytes]) -> NDArray[np.int64]:
    """int64[n], where each object itself begins."""
    return np.fromiter(map(id, objects), np.int64, len(objects))


def unwritten_bytes(size_bytes: int) -> bytes:
    """A new `bytes` object with arbitrary contents, for a kernel to fill before anyone else sees
    it. Unlike `bytes(n)` it does not touch the memory first.
    """
    return cast(bytes, _new_bytes(None, size_bytes))


if TYPE_CHECKING:

    def load_byte(address: int) -> int: ...
    def load_word(address: int) -> int: ...
    def store_byte(address: int, value: int) -> None: ...
    def copy_bytes(target: int, source: int, size_bytes: int) -> None: ...
    def same_bytes(left: int, right: int, size_bytes: int) -> bool: ...
    def as_pointer(address: int) -> Any: ...

else:

    @intrinsic
    def load_byte(typing_context, address):
        """The byte at `address`, 0..255, as int64."""

        def build(context, builder, signature, arguments):
            byte = builder.load(builder.inttoptr(arguments[0], cgutils.voidptr_t), align=1)
            return builder.zext(byte, cgutils.intp_t)

        return types.int64(types.int64), build

    @intrinsic
    def load_word(typing_context, address):
        """The int64 at `address`, which may be unaligned."""

        def build(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], cgutils.intp_t.as_pointer())
            return builder.load(pointer, align=1)

        return types.int64(types.int64), build

    @intrinsic
    def store_byte(typing_context, address, value):
        """Writes the low 8 bits of `value` to `address`."""

        def build(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            builder.store(builder.trunc(arguments[1], ir.IntType(8)), pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), build

    @intrinsic
    def copy_bytes(typing_context, target, source, size_bytes):
        """memcpy: the two ranges must not overlap."""

        def build(context, builder, signature, arguments):
            target, source, size_bytes = arguments
            cgutils.raw_memcpy(
                builder,
                builder.inttoptr(target, cgutils.voidptr_t),
                builder.inttoptr(source, cgutils.voidptr_t),
                size_bytes,
                1,
            )
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), build

    @intrinsic
    def same_bytes(typing_context, left, right, size_bytes):
        """Whether memcmp finds `size_bytes` equal bytes at both addresses."""

        def build(context, builder, signature, arguments):
            pointer, word = cgutils.voidptr_t, cgutils.intp_t
            memcmp = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(cgutils.int32_t, (pointer, pointer, word)), "memcmp"
            )
            left, right = (builder.inttoptr(address, pointer) for address in arguments[:2])
            order = builder.call(memcmp, (left, right, arguments[2]))
            return builder.icmp_signed("==", order, ir.Constant(cgutils.int32_t, 0))

        return types.boolean(types.int64, types.int64, types.int64), build

    @intrinsic
    def as_pointer(typing_context, address):
        """`address` as the pointer that numba.carray takes."""

        def build(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], cgutils.voidptr_t)

        return types.voidptr(types.int64), build


@kernel
def is_contiguous(array: NDArray[Any]) -> bool:
    """Whether the items of a vector lie side by side, so that memcpy may fill or read it."""
    return bool(array.size < 2 or array.strides[0] == array.itemsize)
