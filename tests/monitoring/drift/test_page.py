"""The page: whole without a network, and nothing in a file can become markup."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kedge.monitoring.drift.compare import compare
from kedge.monitoring.drift.page import render, script_json
from kedge.monitoring.drift.pictures import Picture, bars, histogram
from kedge.monitoring.drift.tables import read_pair

EVIL = "</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Tags with their attributes, the text outside scripts, and the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data
        elif self.tags and self.tags[-1][0] != "style":
            self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Elements:
    folder: Path = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    for name, shift in (("a", 0.0), ("b", 1.0)):
        values = rng.normal(shift, 1, 300)
        values[:5] = [math.inf, -math.inf, math.nan, 1e300, 0.0]
        columns = {
            EVIL: values,
            "text": rng.choice([EVIL, "<b>", "x" * 60, "x" * 61, '"'], 300),
            "when": pa.array(np.arange(300), pa.timestamp("ms")),
            "constant": np.full(300, 7.0),
            "few": pa.array([None] * 299 + [1.5]),
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    tables = read_pair(folder / "a.parquet", folder / "b.parquet")
    return Elements(render(compare(tables), EVIL, "b.parquet", "today"))


def test_nothing_is_loaded_from_elsewhere(page: Elements) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "base", "form"}
        assert not {"src", "href", "srcset", "style:url"} & attributes.keys()
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert (policy or "").startswith("default-src 'none'")
    assert any("Plotly" in script for script in page.scripts)
    assert len(page.scripts[1]) > 1_000_000


def test_names_from_the_files_are_text(page: Elements) -> None:
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert EVIL in page.text
    data = json.loads(page.scripts[0])
    labels = [label for column in data["columns"] for label in column["labels"]]
    names = [column["label"] for column in data["overview"]]
    assert labels
    assert not [text for text in labels + names if "<" in text or ">" in text]
    for column in data["columns"]:
        assert len(set(column["labels"])) == len(column["labels"])


def test_no_text_ends_a_script_element() -> None:
    data = {EVIL: [EVIL, "&amp;", "<!--", 1.5]}
    text = script_json(data)
    assert not set("<>&") & set(text)
    assert json.loads(text) == data


def test_every_column_has_a_card_and_a_plot(page: Elements) -> None:
    plots = [attributes for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert [int(plot["data-column"] or "") for plot in plots] == [0, 1, 2, 3]
    assert "values of type timestamp[ms] are not compared" in page.text
    assert "What the figures mean" in page.text


def test_shares_of_a_histogram_sum_to_one_and_outliers_do_not_squeeze_it() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=1000), np.append(rng.normal(size=999), 1e9)
    picture = histogram(a, b)
    assert math.isclose(sum(picture.reference), 1)
    assert math.isclose(sum(picture.current), 1)
    assert picture.edges[-1] < 10
    assert len(picture.edges) == len(picture.reference) + 1
    assert histogram(np.array([np.nan]), np.array([np.inf])) == Picture((), ())
    constant = histogram(np.full(5, 3.0), np.full(5, 3.0))
    assert math.isclose(sum(constant.reference), 1)


def test_whole_numbers_get_bars_of_whole_numbers() -> None:
    values = np.random.default_rng(0).integers(0, 100, 5000).astype(float)
    edges = np.array(histogram(values, values).edges)
    assert len(edges) <= 42
    assert np.all(edges % 1 == 0.5)


def test_bars_show_the_most_frequent_and_join_the_rest() -> None:
    names = [f"c{i}" for i in range(30)]
    counts = np.append(np.arange(30, 0, -1), [0, 5])
    picture = bars(names, counts, counts)
    assert picture.labels == (*names[:24], "other")
    assert math.isclose(sum(picture.reference), 1)
    assert bars([3, 1], np.array([5, 4, 0, 0]), np.array([5, 4, 0, 0])).labels == ("1", "3")
