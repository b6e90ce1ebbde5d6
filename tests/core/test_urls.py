"""What is a model URL, and what of it may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.core.urls import is_folder, is_url, name_of, problem_with, redacted, shown


@pytest.mark.parametrize(
    ("url", "shown_as", "name"),
    [
        ("https://h/a/m.pt", "https://h/a/m.pt", "m.pt"),
        ("https://u:p@h:8080/a/m.pt?sig=x#y", "https://h:8080/a/m.pt", "m.pt"),
        ("https://h/m.pt?to=u@v/w", "https://h/m.pt", "m.pt"),
        ("s3://bucket/a@b/m.pt", "s3://bucket/a@b/m.pt", "m.pt"),
        ("file:///srv/m.pt", "file:///srv/m.pt", "m.pt"),
        ("https://h/folder/?sig=x", "https://h/folder/", "model.py"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown_as: str, name: str) -> None:
    assert is_url(url)
    assert problem_with(url) == ""
    assert shown(url) == shown_as
    assert name_of(url) == name
    assert is_folder(url) == (name == "model.py")


@pytest.mark.parametrize("path", ["m.pt", "/srv/m.pt", "../m.pt", "a:b/m.pt", "models:/m@champion"])
def test_a_path_is_no_url(path: str) -> None:
    assert not is_url(path)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://h/m.pt", "got one of 'ftp'"),
        ("HTTP://h/m.pt", "got one of 'HTTP'"),
        ("zip://m.pt::s3://b/a.zip", "got one of 'zip'"),
        ("simplecache::s3://b/m.pt", "got one of 'simplecache::s3'"),
        ("https://", "names no file"),
        ("https://h", "names no file"),
        ("https://h/", "names no file"),
        ("s3://bucket", "names no file"),
        ("file:///", "names no file"),
        ("https://h:port/m.pt", "is no URL"),
        ("https://[h/m.pt", "is no URL"),
        ("https://h/a b.pt", "has blanks in it"),
        ("https://h/a\n.pt", "has blanks in it"),
    ],
)
def test_what_is_no_models_url_says_why(url: str, problem: str) -> None:
    assert is_url(url)
    assert problem in problem_with(url)


SECRET = st.text("abcXYZ0123456789%", min_size=6, max_size=12)


@given(SECRET, SECRET, SECRET)
def test_no_secret_is_left_in_what_a_library_says(user: str, password: str, query: str) -> None:
    url = f"https://{user}:{password}@host/m.pt?sig={query}"
    for quoted in (url, url.partition("@")[0], f"sig={query}", query, f"{user}:{password}"):
        text = redacted(f"failed at {quoted}!", url)
        assert password not in text
        assert query not in text


def test_a_url_is_never_shown_by_the_check_that_refuses_it() -> None:
    for rest in ("h", "h:x/m", "h/a b?hunter22"):
        url = f"https://u:hunter22@{rest}"
        assert problem_with(url)
        assert "hunter22" not in problem_with(url)
