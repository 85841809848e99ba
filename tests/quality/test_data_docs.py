"""Great Expectations' own pages hold hostile data as text only."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest

from medslm.quality import data_docs
from medslm.quality.reports import Job
from medslm.quality.suites import mixes
from tests.quality.test_suites import EXAMPLES, PARTS

# Great Expectations imports modules that Python 3.11 deprecates (sre_constants, sre_parse).
pytestmark = [
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SCRIPT = "<script>marker(1)</script><img src=x onerror=marker(2)>"
COLUMN = "<svg onload=marker(3)>"


class Live(HTMLParser):
    """Collects what a browser would run or load of the marks that the data carry."""

    def __init__(self):
        super().__init__()
        self.found, self.policy, self.inside = [], [], None

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy.append(values["content"])
        if "marker" in str(attrs) and any(k.startswith("on") or k == "src" for k in values):
            self.found.append((tag, attrs))

    def handle_data(self, data):
        if self.inside == "script" and "marker" in data:
            self.found.append(("script", data))


def job():
    bad = dataclasses.replace(EXAMPLES[6], source=SCRIPT)
    sets = {"train": PARTS["train"], "unlabelled": {"70"}, "test": set()}
    table = mixes.table([*EXAMPLES, bad], **sets)
    columns = {**table.columns, COLUMN: "str"}
    table = table._replace(columns=columns, rows=[{**row, COLUMN: "x"} for row in table.rows])
    suite = mixes.suite(asks=("a",), real=PARTS["train"], max_answer_share=0.9)
    return Job("mixes", "x", table, suite)


def read(text):
    reader = Live()
    reader.feed(text)
    return reader


def test_b13_what_the_data_carry_is_text_in_data_docs_and_no_script_may_run(tmp_path):
    names = data_docs.write_data_docs(tmp_path / "docs", [job()])

    text = (tmp_path / "docs" / names[0]).read_text(encoding="utf-8")
    reader = read(text)
    assert names == ["mixes-x.html"]
    assert "marker(1)" in text
    assert "marker(3)" in text
    assert reader.found == []
    assert len(reader.policy) == 1
    assert "default-src 'none'" in reader.policy[0]
    assert "script-src" not in reader.policy[0]


def test_without_the_escaping_the_same_data_are_live(monkeypatch):
    monkeypatch.setattr(data_docs, "_escaped", lambda value: value)

    assert read(data_docs.page(job())).found
