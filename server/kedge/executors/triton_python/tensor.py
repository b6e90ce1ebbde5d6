"""`pb_utils.Tensor`: a name and an array in the CPU's memory, shared with NumPy and DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kedge import proto
from kedge.core.datatypes import BYTES, DATATYPES, Datatype
from kedge.executors.tensors import TORCH_DTYPES, raw_view
from kedge.executors.triton_python.refusals import TritonModelException

BF16 = DATATYPES["BF16"]
# Without BF16, which NumPy does not have.
BY_NUMPY = {datatype.numpy: datatype for datatype in DATATYPES.values() if datatype is not BF16}
BY_TORCH = {dtype: DATATYPES[name] for name, dtype in TORCH_DTYPES.items()}


class Tensor:
    """An input or output. BYTES are object arrays of `bytes`; BF16 travels through DLPack only.

    The array is not copied unless it is not C-contiguous. That of an input is a writable view of
    the batch's own memory, which the next batch uses again: copy what `execute` is to leave behind.
    """

    __slots__ = ("_array", "_datatype", "_name")

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        """Raises TritonModelException for what is no array of one of the protocol's datatypes."""
        if not isinstance(array, np.ndarray):
            raise TritonModelException(
                f"tensor '{name}': expected a numpy.ndarray, got {type(array).__name__}"
            )
        if array.dtype.kind == "S":
            array = array.astype(np.object_)
        datatype = BY_NUMPY.get(array.dtype)
        if datatype is None:
            advice = "; use numpy.object_ for strings" if array.dtype.kind == "U" else ""
            raise TritonModelException(
                f"tensor '{name}': dtype {array.dtype.str} is none of the protocol's{advice}"
            )
        self._fill(name, datatype, array)

    def _fill(self, name: str, datatype: Datatype, array: NDArray[Any]) -> None:
        self._name = name
        self._datatype = datatype
        # Not ascontiguousarray, which makes a vector of a scalar.
        self._array = np.asarray(array, order="C")

    @classmethod
    def of_raw(cls, name: str, datatype: Datatype, array: NDArray[Any]) -> Tensor:
        """A tensor on `array`, which has the dtype that Kedge keeps `datatype` in."""
        tensor = cls.__new__(cls)
        tensor._fill(name, datatype, array)
        return tensor

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> Tensor:
        """On the memory of a DLPack capsule, or of what has `__dlpack__`.

        Raises TritonModelException if it lies on another device than the CPU.
        """
        value = torch.utils.dlpack.from_dlpack(tensor)
        if value.device.type != "cpu":
            raise TritonModelException(
                f"tensor '{name}': lies on {value.device}; Triton Python models run on the CPU here"
            )
        datatype = BY_TORCH.get(value.dtype)
        if datatype is None:
            raise TritonModelException(
                f"tensor '{name}': dtype {value.dtype} is none of the protocol's"
            )
        array = raw_view(value).view(datatype.numpy).reshape(tuple(value.shape))
        return Tensor.of_raw(name, datatype, array)

    def __repr__(self) -> str:
        return f"<Tensor {self._name} {self._datatype.name} {self.shape()}>"

    @property
    def datatype(self) -> Datatype:
        """The protocol's datatype; not in Triton."""
        return self._datatype

    def name(self) -> str:
        return self._name

    def shape(self) -> list[int]:
        return list(self._array.shape)

    def triton_dtype(self) -> int:
        """The number of the datatype in model_config.proto."""
        return proto.DataType.Value(self._datatype.config_name)

    def is_cpu(self) -> bool:
        return True

    def as_numpy(self) -> NDArray[Any]:
        """The array itself. Raises TritonModelException for BF16."""
        if self._datatype is BF16:
            raise TritonModelException(
                f"tensor '{self._name}': NumPy has no BF16; use to_dlpack and from_dlpack"
            )
        return self._array

    def to_dlpack(self) -> Any:
        """A DLPack capsule on the array's memory. Raises TritonModelException for BYTES."""
        return self.as_torch().__dlpack__()

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.as_torch().__dlpack_device__()

    def as_torch(self) -> torch.Tensor:
        """A torch tensor on the array's memory, a copy if that cannot be written; not in Triton."""
        if self._datatype is BYTES:
            raise TritonModelException(f"tensor '{self._name}': BYTES have no DLPack form")
        array = self._array if self._array.flags.writeable else self._array.copy()
        tensor = torch.from_numpy(array)
        return tensor.view(torch.bfloat16) if self._datatype is BF16 else tensor
