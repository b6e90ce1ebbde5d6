"""Files of load calls on disk: where they may lie, and when they go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.core.errors import InvalidRequest
from kedge.core.paths import folder_among, is_confined
from kedge.core.settings import UPLOAD_FILES_MAX
from kedge.store.uploads import Uploads

PUT_AND_DIE = """
import os, sys
from pathlib import Path
from kedge.store.uploads import Uploads
print(Uploads(Path(sys.argv[1]), True).put("n", {"1/model.pt": b"y"}), flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path, is_allowed=True)


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_files_lie_in_a_folder_named_as_the_model_until_they_are_removed(
    uploads: Uploads, tmp_path: Path
) -> None:
    folder = uploads.put("m", {"1/model.pt": b"one", "labels.txt": b"a\n"})
    again = uploads.put("m", {"1/model.pt": b"two"})
    assert folder.name == again.name == "m"
    assert folder != again
    assert files_in(folder) == ["1/model.pt", "labels.txt"]
    assert (folder / "1" / "model.pt").read_bytes() == b"one"
    assert folder.parent.stat().st_mode & 0o777 == 0o700  # nobody else gets in
    uploads.remove(folder)
    assert not folder.parent.exists()
    assert again.exists()
    uploads.remove(again)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "../a", "1/../../a", "1//a", "1/", "./a", ".ssh/a", "1/.lock", "a\\b",
     "a\0b", "a\nb", "x" * 256, "x/" * 600 + "x", "ü" * 128]
)  # fmt: skip
def test_paths_that_leave_the_folder_are_refused_before_anything_is_written(
    uploads: Uploads, tmp_path: Path, path: str
) -> None:
    with pytest.raises(InvalidRequest, match="expected a relative path"):
        uploads.put("m", {"1/model.pt": b"x", path: b"y"})
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", ".a", "a\nb", "x" * 256])
def test_names_that_are_no_folders_are_refused(uploads: Uploads, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="model name"):
        uploads.put(name, {"1/model.pt": b"x"})
    assert files_in(tmp_path) == []


def test_a_path_cannot_be_a_file_and_a_folder(uploads: Uploads) -> None:
    with pytest.raises(InvalidRequest, match="'file:1': is a file and a folder"):
        uploads.check("m", {"1/model.pt": b"", "1": b""})


def test_the_number_of_files_is_bounded(uploads: Uploads) -> None:
    files = {f"1/{number}": b"" for number in range(UPLOAD_FILES_MAX)}
    uploads.check("m", files)
    with pytest.raises(InvalidRequest, match=f"at most {UPLOAD_FILES_MAX} files"):
        uploads.check("m", {**files, "1/x": b""})


def test_without_permission_every_file_is_refused_by_name(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, is_allowed=False)
    for call in (uploads.check, uploads.put):
        with pytest.raises(InvalidRequest, match=r"'file:1/model.pt'.*--allow-model-code"):
            call("m", {"1/model.pt": b"x"})


def test_what_a_killed_server_left_is_removed_and_what_a_living_one_has_is_not(
    uploads: Uploads, tmp_path: Path
) -> None:
    mine = uploads.put("m", {"1/model.pt": b"x"})
    killed = subprocess.run(
        [sys.executable, "-c", PUT_AND_DIE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    left = Path(killed.stdout.strip())
    assert left.exists()
    Uploads(tmp_path, is_allowed=False)
    assert not left.parent.exists()
    assert mine.exists()


@given(st.text("a./\\\0~é", max_size=8))
def test_a_confined_path_never_leaves_its_folder(path: str) -> None:
    if is_confined(path):
        resolved = (Path("/root/of/it") / path).resolve()
        assert resolved.is_relative_to("/root/of/it")
        assert str(resolved) == f"/root/of/it/{path}"


@given(st.sets(st.text("ab/", min_size=1, max_size=4).filter(is_confined), max_size=5))
def test_files_that_are_folders_too_are_found(paths: set[str]) -> None:
    expected = {p for p in paths for other in paths if Path(p) in Path(other).parents}
    found = folder_among(paths)
    assert (found in expected) if expected else found is None
