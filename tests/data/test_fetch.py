from __future__ import annotations

import contextlib
import http.server
import threading
from pathlib import Path

import pytest

from medslm.data.fetch import (
    Fetched,
    FileSource,
    PubMedQASource,
    SampleSource,
    UnlabelledFile,
    UnlabelledUrl,
    fetch,
    raw_file,
    raw_unlabelled_file,
)
from medslm.errors import DataError, IntegrityError
from medslm.files import sha256_of

SAMPLE = Path(__file__).parent.parent.parent / "data" / "sample" / "pqal.json"
MORE = SAMPLE.with_name("pqau.json")
REVISION = "0123456789abcdef0123456789abcdef01234567"


class Upstream(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        found = self.path.partition("?")[0] == f"/{REVISION}/pqal.json"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(self.body if found else b"")

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(body):
    handler = type("Served", (Upstream,), {"body": body})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{{revision}}/pqal.json"
        server.shutdown()


@pytest.fixture
def upstream():
    with serving(SAMPLE.read_bytes()) as url:
        yield url


def source(url: str, sha256: str, revision: str = REVISION) -> PubMedQASource:
    known = {"url": url, "revision": revision, "sha256": sha256}
    return PubMedQASource(source="pubmedqa", unlabelled=None, **known)


def file(path: Path, sha256: str) -> FileSource:
    return FileSource(source="file", path=str(path), sha256=sha256, unlabelled=None)


def bring(source, out):
    return fetch(source, sample=SAMPLE, sample_unlabelled=MORE, out=out)


def test_the_sample_is_copied_byte_for_byte(tmp_path):
    count = bring(SampleSource(source="sample", unlabelled=None), tmp_path / "raw")

    assert count == Fetched(160, 0)
    assert raw_file(tmp_path / "raw").read_bytes() == SAMPLE.read_bytes()


def test_a_pinned_commit_is_downloaded(tmp_path, upstream):
    count = bring(source(upstream, sha256_of(SAMPLE)), tmp_path / "raw")

    assert count == Fetched(160, 0)
    assert raw_file(tmp_path / "raw").read_bytes() == SAMPLE.read_bytes()


def test_b01_a_changed_upstream_is_refused_and_nothing_is_written(tmp_path, upstream):
    with pytest.raises(IntegrityError, match=f"{sha256_of(SAMPLE)}.*{'f' * 64}"):
        bring(source(upstream, "f" * 64), tmp_path / "raw")

    assert list(tmp_path.iterdir()) == []


def test_a_missing_upstream_and_a_dead_one_say_what_to_do(tmp_path, upstream):
    other = REVISION[::-1]
    with pytest.raises(DataError, match=r"Not Found.*data\.source: file"):
        bring(source(upstream, "f" * 64, other), tmp_path / "raw")
    with pytest.raises(DataError, match="cannot be downloaded"):
        bring(source("http://127.0.0.1:9/x.json", "f" * 64), tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_taken_only_with_its_hash(tmp_path):
    right = file(SAMPLE, sha256_of(SAMPLE))
    wrong = file(SAMPLE, "0" * 64)
    absent = file(tmp_path / "no.json", "0" * 64)

    assert bring(right, tmp_path / "raw") == Fetched(160, 0)
    with pytest.raises(IntegrityError):
        bring(wrong, tmp_path / "raw")
    assert raw_file(tmp_path / "raw").read_bytes() == SAMPLE.read_bytes()
    with pytest.raises(DataError, match="no such file"):
        bring(absent, tmp_path / "raw")


def test_without_a_fetched_file_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(DataError, match="run the fetch stage"):
        raw_file(tmp_path)


def unlabelled_of(url):
    digest = sha256_of(MORE)
    return {
        "sample": "sample",
        "file": UnlabelledFile(path=str(MORE), sha256=digest, limit=None),
        "url": UnlabelledUrl(url=url, sha256=digest, limit=5),
    }


@pytest.mark.parametrize("kind", ["sample", "file", "url"])
def test_questions_without_answers_are_brought_in_byte_for_byte_beside_the_others(tmp_path, kind):
    with serving(MORE.read_bytes()) as url:
        wanted = unlabelled_of(url.replace("{revision}", REVISION))[kind]
        fetched = bring(SampleSource(source="sample", unlabelled=wanted), tmp_path / "raw")

    assert fetched == Fetched(160, 12)
    assert raw_unlabelled_file(tmp_path / "raw").read_bytes() == MORE.read_bytes()
    assert raw_file(tmp_path / "raw").read_bytes() == SAMPLE.read_bytes()


def test_without_them_there_is_no_such_file_and_a_wrong_hash_leaves_all_as_it_was(tmp_path):
    wrong = UnlabelledFile(path=str(MORE), sha256="0" * 64, limit=None)
    absent = UnlabelledFile(path=str(tmp_path / "no.json"), sha256="0" * 64, limit=None)
    bring(SampleSource(source="sample", unlabelled=None), tmp_path / "raw")

    assert raw_unlabelled_file(tmp_path / "raw") is None
    with pytest.raises(IntegrityError, match="0" * 64):
        bring(SampleSource(source="sample", unlabelled=wrong), tmp_path / "raw")
    with pytest.raises(DataError, match=r"no\.json: no such file"):
        bring(SampleSource(source="sample", unlabelled=absent), tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["pqal.json"]


def test_a_query_behind_the_address_is_no_part_of_the_files_name(tmp_path, upstream):
    bring(source(upstream + "?download=true", sha256_of(SAMPLE)), tmp_path / "raw")

    assert raw_file(tmp_path / "raw").name == "pqal.json"
