from __future__ import annotations

from pathlib import Path

import pytest

from kedge.config.problems import NOT_YET, ConfigError
from kedge.config.targets import Targets, find_targets


def make(folder: Path, *names: str) -> Path:
    """Files of these names, an endpoint's text in each that ends in yaml or yml."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"name: {path.stem}\n")
    return folder


def names(targets: Targets) -> list[str]:
    return [source.name for source in targets.endpoints]


def test_a_file_and_a_folder_of_files_are_endpoints(tmp_path: Path) -> None:
    one = make(tmp_path / "one", "a.yaml", "notes.txt") / "a.yaml"
    folder = make(tmp_path / "many", "c.yml", "b.yaml", ".hidden.yaml", "models/1/model.pt")
    targets = find_targets([one, folder])
    assert names(targets) == ["a", "b", "c"]
    assert targets.repositories == ()


def test_a_folder_of_model_directories_is_a_repository(tmp_path: Path) -> None:
    repository = make(tmp_path, "m/config.pbtxt", "m/1/model.pt", "README.md", "broken/1/x")
    assert find_targets([repository]) == Targets((), (repository,))


def test_an_empty_folder_is_a_repository_that_waits_for_models(tmp_path: Path) -> None:
    assert find_targets([tmp_path]).repositories == (tmp_path,)


@pytest.mark.parametrize(
    ("files", "target", "message"),
    [
        ((), "gone", "does not exist"),
        (("a.json",), "a.json", "expected an endpoint file"),
        (("README.md",), ".", "holds neither endpoint files"),
        (("m/config.pbtxt",), "m", "is one model; give the folder that holds it"),
        (("a.yaml", "m/config.pbtxt"), ".", "give them as two targets"),
        ((), "s3://bucket/models", f"a URL is {NOT_YET}"),
    ],
)
def test_what_is_no_target_says_why(
    tmp_path: Path, files: tuple[str, ...], target: str, message: str
) -> None:
    make(tmp_path, *files)
    path = Path(target) if ":" in target else tmp_path / target
    with pytest.raises(ConfigError, match=message):
        find_targets([path])


def test_all_wrong_targets_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        find_targets([tmp_path / "x", make(tmp_path / "ok", "a.yaml"), tmp_path / "y"])
    assert len(error.value.problems) == 2


def test_two_endpoints_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    make(tmp_path, "one/a.yaml", "two/a.yaml")
    with pytest.raises(ConfigError, match=r"two/a.yaml: name: 'a' is also the name of .*one/a"):
        find_targets([tmp_path / "one", tmp_path / "two"])
