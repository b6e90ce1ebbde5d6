"""The inline executor against torch itself: every datatype, shapes, and models that misbehave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from kedge.core.errors import InvalidRequest, LoadFailed, ModelFailed
from kedge.core.ports import BatchResult, Executor
from kedge.core.values import VersionManifest
from kedge.executors.local import LocalExecutor
from kedge.executors.make import make_executor, measure_us
from kedge.executors.tensors import TORCH_DTYPES, last_line
from support.torchscript import manifest, save


class Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class SumAndProduct(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, a * b


class Named(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"second": 2 * x, "first": x}


class Upper(torch.nn.Module):
    def forward(self, x: list[str]) -> list[str]:
        return [s.upper() for s in x]


class Lookup(torch.nn.Module):
    """Raises for an index that the table does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x)


class Transposed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


class Whole(torch.nn.Module):
    """Wrong when more than one row comes: it folds the batch away."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.shape[0] == 1 else x.sum(0, keepdim=True)


def make(declared: VersionManifest) -> Executor:
    return make_executor(declared, allow_model_code=False)


def run(
    executor: Executor, rows: int, arrays: Sequence[np.ndarray], batched: bool = True
) -> BatchResult:
    dims = [array.shape[1:] if batched else array.shape for array in arrays]
    buffers = executor.allocate(rows, dims, [array.nbytes for array in arrays])
    for buffer, array in zip(buffers, arrays, strict=True):
        buffer[:] = np.frombuffer(array.tobytes(), np.uint8)
    results: list[tuple[BatchResult, bool]] = []
    executor.submit(rows, dims, buffers, lambda result, final: results.append((result, final)))
    ((result, final),) = results
    assert final
    return result


@pytest.mark.parametrize("datatype", sorted(TORCH_DTYPES))
def test_every_datatype_passes_bit_by_bit(tmp_path: Path, datatype: str) -> None:
    executor = make(
        manifest(
            save(Identity(), tmp_path / "m.pt"), [("x", datatype, (3,))], [("y", datatype, (3,))]
        )
    )
    item_bytes = torch.empty(0, dtype=TORCH_DTYPES[datatype]).element_size()
    raw = np.arange(2 * 3 * item_bytes, dtype=np.uint8) % (2 if datatype == "BOOL" else 255)
    buffers = executor.allocate(2, [(3,)], [raw.nbytes])
    buffers[0][:] = raw
    results: list[BatchResult] = []
    executor.submit(2, [(3,)], buffers, lambda result, final: results.append(result))
    assert results[0].error is None
    assert results[0].outputs[0].shape == (2, 3)
    assert results[0].outputs[0].data.tobytes() == raw.tobytes()


def test_several_inputs_and_outputs_go_by_position(tmp_path: Path) -> None:
    executor = make(
        manifest(
            save(SumAndProduct(), tmp_path / "m.pt"),
            [("a", "FP32", (2,)), ("b", "FP32", (2,))],
            [("sum", "FP32", (2,)), ("product", "FP32", (2,))],
        )
    )
    a, b = np.float32([[1, 2], [3, 4]]), np.float32([[5, 6], [7, 8]])
    result = run(executor, 2, [a, b])
    assert result.outputs[0].data.view(np.float32).tolist() == [6, 8, 10, 12]
    assert result.outputs[1].data.view(np.float32).tolist() == [5, 12, 21, 32]


def test_a_dict_of_outputs_goes_by_name(tmp_path: Path) -> None:
    executor = make(
        manifest(
            save(Named(), tmp_path / "m.pt"),
            [("x", "FP32", (1,))],
            [("first", "FP32", (1,)), ("second", "FP32", (1,))],
        )
    )
    result = run(executor, 1, [np.float32([[3]])])
    assert [float(output.data.view(np.float32)[0]) for output in result.outputs] == [3, 6]


def test_an_answer_that_is_not_contiguous_is_laid_out_in_row_major_order(tmp_path: Path) -> None:
    executor = make(
        manifest(
            save(Transposed(), tmp_path / "m.pt"), [("x", "FP32", (2, 3))], [("y", "FP32", (3, 2))]
        )
    )
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    result = run(executor, 2, [x])
    assert result.outputs[0].data.tobytes() == x.transpose(0, 2, 1).tobytes()


def test_free_dimensions_take_any_size_and_zero(tmp_path: Path) -> None:
    executor = make(
        manifest(
            save(Identity(), tmp_path / "m.pt"), [("x", "FP32", (-1,))], [("y", "FP32", (-1,))]
        )
    )
    for size in (5, 0, 1):
        x = np.ones((2, size), np.float32)
        result = run(executor, 2, [x])
        assert result.error is None
        assert result.outputs[0].shape == (2, size)
        assert result.outputs[0].data.tobytes() == x.tobytes()


def test_a_model_without_batch_dimension_gets_whole_shapes(tmp_path: Path) -> None:
    executor = make(
        manifest(
            save(Identity(), tmp_path / "m.pt"),
            [("x", "INT64", (2, 2))],
            [("y", "INT64", (2, 2))],
            batched=False,
        )
    )
    x = np.arange(4).reshape(2, 2)
    result = run(executor, 1, [x], batched=False)
    assert result.outputs[0].shape == (2, 2)
    assert result.outputs[0].data.tobytes() == x.tobytes()


def packed(*texts: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(len(t).to_bytes(4, "little") + t for t in texts), np.uint8)


def run_strings(executor: Executor, raw: np.ndarray, shape: tuple[int, ...]) -> BatchResult:
    results: list[BatchResult] = []
    executor.submit(shape[0], [shape[1:]], [raw], lambda result, final: results.append(result))
    return results[0]


def strings_manifest(path: Path) -> VersionManifest:
    return manifest(path, [("x", "BYTES", (1,))], [("y", "BYTES", (1,))])


def test_bytes_become_a_list_of_str_and_back(tmp_path: Path) -> None:
    executor = make(strings_manifest(save(Upper(), tmp_path / "m.pt")))
    result = run_strings(executor, packed(b"ab", b"", "é".encode()), (3, 1))
    assert result.error is None
    output = result.outputs[0]
    assert output.shape == (3, 1)
    assert output.data.tobytes()[:6] == b"\x02\x00\x00\x00AB"
    assert output.row_ends is not None
    assert output.row_ends.tolist() == [6, 10, 16]


def test_bytes_that_are_no_utf8_are_the_callers_mistake(tmp_path: Path) -> None:
    executor = make(strings_manifest(save(Upper(), tmp_path / "m.pt")))
    error = run_strings(executor, packed(b"ok", b"\xff"), (2, 1)).error
    assert isinstance(error, InvalidRequest)
    assert "input 'x': element 1 is not UTF-8" in str(error)


def test_a_model_that_raises_answers_its_reason_and_serves_on(tmp_path: Path) -> None:
    executor = make(
        manifest(save(Lookup(), tmp_path / "m.pt"), [("x", "INT64", ())], [("y", "FP32", (2,))])
    )
    error = run(executor, 2, [np.int64([0, 9])]).error
    assert isinstance(error, ModelFailed)
    assert "index out of range" in str(error)
    assert run(executor, 2, [np.int64([0, 3])]).error is None


@pytest.mark.parametrize(
    ("module", "output", "message"),
    [
        (Identity(), ("y", "FP32", (3,)), r"'y': expected shape \[1, 3\], got \[1, 2\]"),
        (Identity(), ("y", "FP32", (2, 1)), r"'y': expected shape \[1, 2, 1\], got \[1, 2\]"),
        (Identity(), ("y", "FP64", (2,)), r"'y': expected FP64, got torch.float32"),
        (Identity(), ("y", "BYTES", (2,)), r"'y': expected str or lists of it, got Tensor"),
        (Named(), ("y", "FP32", (2,)), r"outputs \['y'\] are declared, the model answers"),
        (Whole(), ("y", "FP32", (2,)), r"2 rows.*expected shape \[2, 2\], got \[1, 2\]"),
    ],
)
def test_a_model_that_breaks_its_declaration_is_not_loaded(
    tmp_path: Path,
    module: torch.nn.Module,
    output: tuple[str, str, tuple[int, ...]],
    message: str,
) -> None:
    path = save(module, tmp_path / "m.pt")
    with pytest.raises(LoadFailed, match=message):
        make(manifest(path, [("x", "FP32", (2,))], [output]))


def test_too_few_outputs_are_not_loaded(tmp_path: Path) -> None:
    path = save(Identity(), tmp_path / "m.pt")
    declared = manifest(path, [("x", "FP32", (2,))], [("y", "FP32", (2,)), ("z", "FP32", (2,))])
    with pytest.raises(LoadFailed, match="expected 2 outputs, got 1"):
        make(declared)


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_torchscript_is_not_loaded(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    with pytest.raises(LoadFailed, match=r"m\.pt"):
        make(manifest(path, [("x", "FP32", (2,))], [("y", "FP32", (2,))]))


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    """`torch.load` would run it; `torch.jit.load` must not."""
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {marker}",)

    path = tmp_path / "m.pt"
    torch.save(Attack(), path)
    with pytest.raises(LoadFailed):
        make(manifest(path, [("x", "FP32", (2,))], [("y", "FP32", (2,))]))
    assert not marker.exists()


def test_other_buffers_than_the_lent_ones_are_read_in_place(tmp_path: Path) -> None:
    executor = make(
        manifest(save(Identity(), tmp_path / "m.pt"), [("x", "FP32", (3,))], [("y", "FP32", (3,))])
    )
    shared = np.arange(6, dtype=np.float32).view(np.uint8)
    results: list[BatchResult] = []
    executor.submit(2, [(3,)], [shared], lambda result, final: results.append(result))
    output = results[0].outputs[0].data
    assert output.tobytes() == shared.tobytes()
    assert np.shares_memory(output, shared)
    lent = executor.allocate(2, [(3,)], [shared.nbytes])
    assert not np.shares_memory(lent[0], shared)


class Weight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight


def test_an_answer_that_is_a_weight_is_an_answer(tmp_path: Path) -> None:
    declared = manifest(tmp_path / "none", [("x", "FP32", (1,))], [("y", "FP32", (2,))], rows_max=1)
    executor = LocalExecutor(declared, Weight().forward)
    assert run(executor, 1, [np.float32([[3]])]).outputs[0].data.view(np.float32).tolist() == [1, 1]


def test_the_time_of_a_batch_is_measured(tmp_path: Path) -> None:
    declared = manifest(
        save(Identity(), tmp_path / "m.pt"), [("x", "FP32", (-1,))], [("y", "FP32", (-1,))]
    )
    measured = measure_us(make(declared), declared)
    assert 0 < measured.row_us < 100_000
    assert 0 < measured.batch_us < 100_000


def test_the_reason_is_found_before_the_frames_of_cpp() -> None:
    error = RuntimeError("no such size\nException raised from f at g.cpp:1\nframe #0: h\n")
    assert last_line(error) == "no such size"
    assert last_line(ValueError()) == "ValueError"
