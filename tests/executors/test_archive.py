"""Zip archives that lie, and the format that a file has by its content."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.core.errors import LoadFailed
from kedge.core.values import ModelFormat
from kedge.executors import archive as archives
from kedge.executors.archive import check_torchscript, detect, open_archive, read_entry
from kedge.executors.make import make_executor
from support.archives import Affine, export, write
from support.modules import Double
from support.torchscript import manifest, save


def test_the_format_is_known_by_content_under_any_name(tmp_path: Path) -> None:
    script = save(Double(), tmp_path / "a.pt2")
    exported = export(Affine(), tmp_path / "b.pt2", torch.zeros(2, 4)).rename(tmp_path / "b.pt")
    package = write(tmp_path / "c", {"data/aotinductor/model/x.so": b"", "archive_format": b"pt2"})
    code = tmp_path / "model.py"
    code.write_text("")
    found = [detect(path) for path in (script, exported, package, code, tmp_path)]
    assert found == [
        ModelFormat.TORCHSCRIPT,
        ModelFormat.EXPORTED,
        ModelFormat.AOTINDUCTOR,
        ModelFormat.PYTHON,
        ModelFormat.PYTHON,
    ]


def test_a_declared_format_is_kept(tmp_path: Path) -> None:
    path = save(Double(), tmp_path / "m.pt")
    made = manifest(path, [("x", "FP32", (1,))], [("y", "FP32", (1,))])
    wrong = replace(made, format=ModelFormat.EXPORTED)
    make_executor(wrong, allow_model_code=False)
    with pytest.raises(LoadFailed, match="declared as torch_export, but it is torchscript"):
        make_executor(replace(wrong, is_format_declared=True), allow_model_code=False)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\..\\x", "a\nb", "C:\\x"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/version", b"3")
        archive.writestr(name, b"x")
    with pytest.raises(LoadFailed, match="expected a relative path"):
        open_archive(path)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("model/data.pkl", b"good")
        archive.writestr("model/data.pkl", b"bad")
    with pytest.raises(LoadFailed, match=r"entry 'model/data\.pkl': is there twice"):
        open_archive(path)


def test_entries_over_each_other_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/a", bytes(1000))
        archive.writestr("m/b", bytes(1000))
    content = bytearray(buffer.getvalue())
    second = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, second + 42, 10)  # where its header begins
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    with pytest.raises(LoadFailed, match="lies over another one"):
        open_archive(path)


def test_a_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "INFLATED_BYTES_MAX", 1_000_000)
    path = tmp_path / "m.pt"
    for size, is_refused in ((1_000_000, False), (1_000_001, True)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("m/code/a.py", bytes(size))
        if is_refused:
            with pytest.raises(LoadFailed, match="inflates to 1000001 bytes"):
                open_archive(path)
        else:
            open_archive(path).close()


def test_an_entry_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", {"a": b"12345"})
    with open_archive(path) as archive:
        assert read_entry(archive, "model/a") == b"12345"
        with pytest.raises(LoadFailed, match="has 5 bytes, at most 4 are read"):
            read_entry(archive, "model/a", 4)
    content = path.read_bytes().replace(b"12345", b"12346")
    path.write_bytes(content)
    with open_archive(path) as archive, pytest.raises(LoadFailed, match="CRC"):
        read_entry(archive, "model/a")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = save(Double(), tmp_path / "m.pt").read_bytes()
    path = tmp_path / "cut.pt"
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(LoadFailed, match=r"cut\.pt"):
            detect(path)


def test_bytes_behind_the_archive_are_refused(tmp_path: Path) -> None:
    path = save(Double(), tmp_path / "m.pt")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(LoadFailed, match="no zip archive, or cut off"):
        detect(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    return save(Double(), folder / "m.pt").read_bytes(), folder / "fuzzed.pt"


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_are_refused_or_read_alike(
    good: tuple[bytes, Path], changes: list[tuple[int, int]]
) -> None:
    content, path = bytearray(good[0]), good[1]
    for position, value in changes:
        # Half of the changes hit the directory at the end.
        index = position % (len(content) * 2)
        content[index if index < len(content) else -1 - index % 600] = value
    path.write_bytes(content)
    with contextlib.suppress(LoadFailed):  # and nothing else
        detect(path)
        check_torchscript(path)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(good: tuple[bytes, Path], content: bytes) -> None:
    good[1].write_bytes(content)
    with pytest.raises(LoadFailed):
        detect(good[1])


class Writes(torch.nn.Module):
    """TorchScript has an operator that writes a file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.file)
        return x


class Maps(torch.nn.Module):
    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file(self.file, True, 1)


@pytest.mark.parametrize("module", [Writes, Maps])
def test_torchscript_that_writes_a_file_does_so_in_torch_and_is_refused_here(
    tmp_path: Path, module: type[torch.nn.Module]
) -> None:
    file = tmp_path / "written"
    path = save(module(str(file)), tmp_path / "m.pt")
    made = manifest(path, [("x", "FP32", (1,))], [("y", "FP32", (1,))])
    with pytest.raises(LoadFailed, match="reads or writes files"):
        make_executor(made, allow_model_code=True)
    assert not file.exists()
    torch.jit.load(path)(torch.zeros(1))
    assert file.exists()


def test_a_script_with_a_word_like_it_is_not_refused(tmp_path: Path) -> None:
    class Saves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            savings = x * 2
            return savings + 1

    check_torchscript(save(Saves(), tmp_path / "m.pt"))
