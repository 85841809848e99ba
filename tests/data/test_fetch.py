from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from medslm.data.fetch import FileSource, PubMedQASource, SampleSource, fetch, raw_file
from medslm.errors import DataError, IntegrityError
from medslm.files import sha256_of

SAMPLE = Path(__file__).parent.parent.parent / "data" / "sample" / "pqal.json"
REVISION = "0123456789abcdef0123456789abcdef01234567"


class Upstream(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        found = self.path == f"/{REVISION}/pqal.json"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(self.body if found else b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def upstream():
    handler = type("Served", (Upstream,), {"body": SAMPLE.read_bytes()})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{{revision}}/pqal.json"
        server.shutdown()


def source(url: str, sha256: str, revision: str = REVISION) -> PubMedQASource:
    return PubMedQASource(source="pubmedqa", url=url, revision=revision, sha256=sha256)


def test_the_sample_is_copied_byte_for_byte(tmp_path):
    count = fetch(SampleSource(source="sample"), sample=SAMPLE, out=tmp_path / "raw")

    assert count == 160
    assert raw_file(tmp_path / "raw").read_bytes() == SAMPLE.read_bytes()


def test_a_pinned_commit_is_downloaded(tmp_path, upstream):
    count = fetch(source(upstream, sha256_of(SAMPLE)), sample=SAMPLE, out=tmp_path / "raw")

    assert count == 160
    assert raw_file(tmp_path / "raw").read_bytes() == SAMPLE.read_bytes()


def test_a_changed_upstream_is_refused_and_nothing_is_written(tmp_path, upstream):
    with pytest.raises(IntegrityError, match=f"{sha256_of(SAMPLE)}.*{'f' * 64}"):
        fetch(source(upstream, "f" * 64), sample=SAMPLE, out=tmp_path / "raw")

    assert list(tmp_path.iterdir()) == []


def test_a_missing_upstream_and_a_dead_one_say_what_to_do(tmp_path, upstream):
    other = REVISION[::-1]
    with pytest.raises(DataError, match=r"Not Found.*data\.source: file"):
        fetch(source(upstream, "f" * 64, other), sample=SAMPLE, out=tmp_path / "raw")
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch(source("http://127.0.0.1:9/x.json", "f" * 64), sample=SAMPLE, out=tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_taken_only_with_its_hash(tmp_path):
    right = FileSource(source="file", path=str(SAMPLE), sha256=sha256_of(SAMPLE))
    wrong = FileSource(source="file", path=str(SAMPLE), sha256="0" * 64)
    absent = FileSource(source="file", path=str(tmp_path / "no.json"), sha256="0" * 64)

    assert fetch(right, sample=SAMPLE, out=tmp_path / "raw") == 160
    with pytest.raises(IntegrityError):
        fetch(wrong, sample=SAMPLE, out=tmp_path / "raw")
    assert raw_file(tmp_path / "raw").read_bytes() == SAMPLE.read_bytes()
    with pytest.raises(DataError, match="no such file"):
        fetch(absent, sample=SAMPLE, out=tmp_path / "raw")


def test_without_a_fetched_file_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(DataError, match="run the fetch stage"):
        raw_file(tmp_path)
