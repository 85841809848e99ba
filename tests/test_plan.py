"""`medslm plan`: the bill before asking, from real params, questions and journals."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from medslm.cli import main
from medslm.data.records import Question
from medslm.errors import DataError, IntegrityError, ParamsError, work_dir
from medslm.files import lock, read_jsonl, sha256_of
from medslm.profile import apply_profile, load_profile, use_questions
from medslm.teacher.bill import bill_text
from medslm.teacher.estimate import NOTHING
from medslm.teacher.planning import Bill, read_bill
from medslm.teacher.questions import Questions
from medslm.teacher.replies import Body, Intent, Reply
from medslm.teacher.settings import load_plan
from medslm.teacher.store import open_store
from tests.code_deps import ROOT
from tests.teacher.asked import ASK, OPENAI

TODAY = date(2026, 11, 22)
API: dict[str, Any] = {
    **OPENAI,
    "base_url": None,
    "key_env": "OPENAI_API_KEY",
    "model": "gpt-5.4-mini",
    "temperature": None,
    "max_tokens": 300,
    "structured": True,
    "price": "listed",
    "max_usd": 5.0,
    "concurrency": 4,
}
NEW: dict[str, Any] = {
    **ASK,
    "strategy": "new",
    "per_question": 2,
    "answers": {"yes": 0.4, "no": 0.4, "maybe": 0.2},
}
PARAMS: dict[str, Any] = {
    "data": {"source": "sample", "unlabelled": None},
    "split": {"protocol": "official", "folds": [0]},
    "teachers": {"api": API},
    "asks": {"reworded": ASK, "more": NEW},
    "answers": {},
}
TRAIN = 18  # of 40 questions: half, less one of ten folds


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of 40 questions in the current folder, from which no connection can be opened."""
    body = json.loads((ROOT / "data/sample/pqal.json").read_text(encoding="utf-8"))
    sample = tmp_path / "data/sample/pqal.json"
    sample.parent.mkdir(parents=True)
    sample.write_text(json.dumps(dict(list(body.items())[:40])), encoding="utf-8")
    shutil.copy(ROOT / "data/sample/pqau.json", sample.parent)
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was about to be opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    set_params()
    return tmp_path


def set_params(*, api: dict[str, Any] | None = None, **sections: Any) -> Path:
    """Write params.yaml with some sections, and some knobs of the teacher, changed."""
    teachers = {"api": {**API, **(api or {})}}
    path = Path("params.yaml")
    path.write_text(yaml.safe_dump({**PARAMS, "teachers": teachers, **sections}, sort_keys=False))
    return path


def bill(*names: str) -> Bill:
    return read_bill(Path("params.yaml"), names, TODAY)


def plan(*words: str) -> Result:
    return CliRunner().invoke(main, ["plan", "--only", "teacher", *words])


def cells(text: str, stage: str) -> list[list[str]]:
    """Return the cells of the printed lines that begin with a stage's name."""
    lines = [line for line in text.splitlines() if line.split("  ")[0] == stage]
    return [re.split(r" {2,}", line) for line in lines]


def stage_main(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"stages_{name}", ROOT / f"stages/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def answer(ask: str, count: int, *, tokens: int = 90) -> None:
    """Put replies to an ask's first requests into the teacher's journal."""
    train = Questions(Path("params.yaml")).part("train")
    wanted = load_plan(Path("params.yaml"), ask, train, environ={}).requests[:count]
    usage = {"prompt_tokens": 500, "completion_tokens": tokens}
    with open_store(work_dir() / "replies/api") as store:
        store.append([Reply(r.key, "{}", "stop", usage, "m", 0, True) for r in wanted])


# ---- what it prints


def test_it_prints_a_bill_without_a_key(project):
    result = plan()

    assert result.exit_code == 0
    first, costs = cells(result.stdout, "ask@reworded")
    assert first[1:6] == ["api", "gpt-5.4-mini", str(TRAIN), "0", str(TRAIN)]
    assert re.fullmatch(r"\d+k / \d+k / \d+k", first[6])
    assert first[7] == "824 / 1k / 5k"
    dollars = r"\$0\.\d{4} / \$0\.\d{4} / \$0\.\d{4}"
    assert [bool(re.fullmatch(dollars, cell)) for cell in costs[1:4]] == [True] * 3
    assert costs[4] == "0.4"
    assert cells(result.stdout, "ask@more")[0][3] == str(2 * TRAIN)
    assert cells(result.stdout, "total")[0][4] == "1.1"
    assert "api (mode sync): fits under max_usd $5.00 ($0.00 spent before)" in result.stdout
    assert "gpt-5.4-mini: OpenAI's prices of 2026-10-14" in result.stdout
    assert "assumed: replies as long as a frontier model's on PubMedQA" in result.stdout


def test_columns_stand_under_their_heads(project):
    lines = plan().stdout.splitlines()

    requests, costs = lines[0:3], lines[4:8]
    assert requests[0].split()[0] == "stage"
    assert costs[0].startswith("low / expected / high")
    assert costs[0].endswith("batch (up to 24 h)  minutes (sync)")
    assert len({len(line) for line in requests}) == 1
    assert len({len(line) for line in costs}) == 1


def test_the_sum_is_that_of_the_lines(project):
    found = bill()

    rows = [row.costs["sync"] for row in found.rows]
    printed = cells(bill_text(found), "total")[0]
    assert None not in rows
    expected = sum(row.expected for row in rows if row is not None) / 1e6
    assert printed[1].split(" / ")[1] == f"${expected:.4f}"


def test_one_line_alone_needs_no_sum(project):
    text = bill_text(bill("reworded"))

    assert cells(text, "total") == []
    assert cells(bill_text(bill()), "total") != []


def test_batch_and_flex_are_at_half_the_price(project):
    for row in bill().rows:
        sync, flex, batch = (row.costs[mode] for mode in ("sync", "flex", "batch"))
        assert sync is not None
        assert flex == batch
        assert flex is not None
        assert abs(2 * flex.expected - sync.expected) <= 2


# ---- what is asked


def test_what_the_journal_holds_is_not_asked_again(project):
    before = bill("reworded").rows[0]
    answer("reworded", 10)

    after = bill("reworded").rows[0]

    assert (before.held, before.to_ask) == (0, TRAIN)
    assert (after.held, after.to_ask) == (10, TRAIN - 10)
    assert after.prompt is not None
    assert before.prompt is not None
    assert after.prompt.expected < before.prompt.expected / 2
    assert bill("more").rows[0].held == 0


def test_with_everything_answered_there_is_nothing_to_ask(project):
    answer("reworded", TRAIN)

    found = bill("reworded")

    assert found.rows[0].costs["sync"] == NOTHING
    assert "nothing to ask; max_usd $5.00 ($0.00 spent before)" in found.remarks[0]
    assert cells(bill_text(found), "ask@reworded")[0][5:] == ["0", "-", "-"]


def test_another_model_has_nothing_in_the_journal(project):
    answer("reworded", 10)
    set_params(api={"model": "gpt-4.1-mini"})

    assert bill("reworded").rows[0].held == 0


def test_the_mode_changes_no_key(project):
    answer("reworded", 10)
    set_params(api={"mode": "batch", "max_usd": 1})

    assert bill("reworded").rows[0].held == 10


def test_twenty_replies_tell_how_long_the_next_ones_are(project):
    usual = bill("more").rows[0]
    answer("more", 20, tokens=200)

    learned = bill("more").rows[0]

    assert (usual.learned, learned.learned) == (False, True)
    assert learned.output is not None
    assert learned.output.expected == learned.to_ask * 200
    text = bill_text(bill())
    assert "a frontier model's on PubMedQA (high: all of max_tokens); replies as long as " in text
    assert "those in the journal (ask@more)" in text
    assert "a frontier model's" not in bill_text(bill("more"))


def test_replies_without_a_count_teach_nothing(project):
    train = Questions(Path("params.yaml")).part("train")
    wanted = load_plan(Path("params.yaml"), "more", train, environ={}).requests[:20]
    with open_store(work_dir() / "replies/api") as store:
        for at, request in enumerate(wanted):
            usage = None if at % 2 else {"prompt_tokens": 5}
            store.append([Reply(request.key, "{}", "stop", usage, "m", 0, True)])

    row = bill("more").rows[0]

    assert (row.held, row.learned) == (20, False)


def test_a_run_that_is_asking_now_is_not_disturbed(project):
    answer("reworded", 3)

    with lock(work_dir() / "replies/api/lock", "the journal"):
        assert bill("reworded").rows[0].held == 3


def test_what_was_spent_before_counts_towards_the_cap(project):
    with open_store(work_dir() / "replies/api") as store:
        store.sending([Intent("0" * 64, 4_999_000)])
        store.received([Body("0" * 64, "{}", 4_998_000, None, 0, True)])

    (remark, *_) = bill().remarks

    assert "would stop at max_usd $5.00 ($5.00 spent before) after about 0 of 54" in remark


def test_only_named_entries_are_looked_at(project):
    result = plan("--ask", "more")

    assert cells(result.stdout, "ask@more") != []
    assert cells(result.stdout, "ask@reworded") == []
    assert [row.name for row in bill("more", "reworded").rows] == ["ask@reworded", "ask@more"]


def test_an_unknown_name_is_refused_with_the_known_ones(project):
    result = plan("--ask", "mroe")

    assert result.exit_code == 2
    assert "--ask mroe: params.yaml has no such entry in asks or answers" in result.stderr
    assert "(there are: more, reworded)" in result.stderr


def test_no_entry_at_all_is_an_empty_bill(project):
    set_params(asks={})

    assert bill().rows == []
    assert plan().exit_code == 0
    with pytest.raises(ParamsError, match=r"\(there are: none\)"):
        bill("any")


def test_a_teachers_own_answers_are_on_the_bill(project):
    set_params(
        answers={"shown": {"teacher": "api", "shots": 3, "prompt": "v1", "seed": 0}},
    )

    found = bill()

    row = found.rows[-1]
    assert (row.name, row.requests) == ("answer@shown", 20 + 2)
    assert len(found.rows) == 3
    assert [r.name for r in bill("shown").rows] == ["answer@shown"]


def test_examples_that_all_prompts_begin_with_lower_the_lower_bound(project):
    def low(shots: int) -> tuple[int, int]:
        set_params(
            api={"max_tokens": 16},
            answers={"shown": {"teacher": "api", "shots": shots, "prompt": "v1", "seed": 0}},
        )
        row = bill("shown").rows[0]
        found = row.costs["sync"]
        assert found is not None
        assert row.prompt is not None
        return found.low, row.prompt.low * 750_000 // 10**6

    with_few, all_at_full_price = low(1)
    with_many, full_price = low(8)

    assert with_few >= all_at_full_price
    assert with_many < full_price / 2


def test_unlabelled_questions_are_on_the_bill(project):
    data = {"source": "sample", "unlabelled": "sample"}
    set_params(
        data=data,
        asks={"labels": {**ASK, "strategy": "pseudo-label", "questions": "unlabelled"}},
    )
    count = len(json.loads((ROOT / "data/sample/pqau.json").read_text(encoding="utf-8")))

    assert count > 5
    assert bill().rows[0].requests == count


# ---- teachers that are not paid


def test_a_teacher_in_this_process_is_free_and_not_loaded(project):
    local = {
        "backend": "local",
        "model": "smollm2-135m",
        "revision": None,
        "dtype": "auto",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 80,
        "batch_size": 24,
        "style": "completion",
        "constrained": True,
        "max_failed_share": 0.2,
    }
    set_params(
        teachers={"mine": local},
        asks={"more": {**NEW, "teacher": "mine"}},
        answers={"shown": {"teacher": "mine", "shots": 3, "prompt": "v1", "seed": 0}},
    )

    text = plan().stdout

    requests, costs = cells(text, "ask@more")
    assert requests == ["ask@more", "mine", "smollm2-135m", "36", "-", "36", "-", "-"]
    assert costs == ["ask@more", "free", "-", "-", "-"]
    assert cells(text, "answer@shown")[0][3] == "22"
    assert "assumed" not in text
    assert cells(text, "total") == []


def test_recorded_replies_are_free(project):
    recorded = {"backend": "recorded", "path": "none", "sha256": "0" * 64, "max_failed_share": 0}
    set_params(teachers={"api": recorded}, asks={"reworded": ASK})

    assert cells(bill_text(bill()), "ask@reworded")[0][2] == "recorded"


def test_a_free_server_is_free_and_takes_its_minutes(project):
    set_params(api={"price": "free", "base_url": "http://127.0.0.1:9/v1", "max_usd": None})

    result = plan()

    assert cells(result.stdout, "ask@reworded")[1] == ["ask@reworded", "free", "-", "-", "0.4"]
    assert "api: free" in result.stdout


# ---- prices, modes and caps


def test_a_mode_that_is_not_offered_is_a_dash(project):
    set_params(api={"model": "gpt-4.1-mini"})

    found = bill()

    costs = found.rows[0].costs
    assert costs["flex"] is None
    assert costs["batch"] is not None
    assert cells(bill_text(found), "total")[0][2] == "-"
    assert "gpt-4.1-mini: OpenAI ends it on 2027-01-14; another model has other keys" in (
        found.remarks
    )


def test_a_model_that_was_shut_down_is_said_to_be(project):
    set_params(api={"model": "gpt-5-mini"})

    (*_, before) = read_bill(Path("params.yaml"), (), date(2026, 12, 10)).remarks
    (*_, after) = read_bill(Path("params.yaml"), (), date(2026, 12, 11)).remarks

    assert before.startswith("gpt-5-mini: OpenAI ends it on 2026-12-11")
    assert after.startswith("gpt-5-mini: OpenAI ended it on 2026-12-11")


def test_a_price_of_ones_own_is_that_of_the_mode_in_use(project):
    figures = {"input": 2.0, "cached": 1.0, "output": 8.0}
    set_params(api={"price": figures, "base_url": "http://127.0.0.1:9/v1", "mode": "flex"})

    found = bill("reworded")

    costs = found.rows[0].costs
    assert costs["sync"] is None
    assert costs["batch"] is None
    assert costs["flex"] is not None
    assert found.rows[0].prompt is not None
    assert found.rows[0].output is not None
    tokens = found.rows[0].prompt.expected * 2 + found.rows[0].output.expected * 8
    assert costs["flex"].expected == tokens
    assert found.remarks[1] == "gpt-5.4-mini: the price in params.yaml, for mode flex"


def test_an_unknown_price_is_refused_as_asking_would(project):
    set_params(api={"model": "gpt-99"})

    result = plan()

    assert result.exit_code == 2
    assert "teachers.api.price: listed: gpt-99 is not in the price list" in result.stderr


def test_a_small_cap_says_where_it_would_stop(project):
    set_params(api={"max_usd": 0.02})

    (remark, *_) = bill().remarks

    assert re.search(
        r"would stop at max_usd \$0\.0200 .* after about [1-9]\d* of 54 requests", remark
    )


def test_a_missing_cap_is_said_before_asking_is_refused(project):
    set_params(api={"max_usd": None})

    (remark, *_) = bill().remarks

    assert "max_usd is null: nothing paid is sent before" in remark


def test_limits_of_the_endpoint_stretch_the_minutes(project):
    set_params(api={"rpm": 2})

    assert bill("reworded").rows[0].minutes == TRAIN / 2


# ---- the questions


def test_the_questions_are_those_that_split_writes(project):
    runner = CliRunner()
    fetch, split = (stage_main(name) for name in ("fetch", "split"))
    fetched = runner.invoke(
        fetch,
        [
            *("--sample", "data/sample/pqal.json", "--out", "data/raw"),
            *("--sample-unlabelled", "data/sample/pqau.json"),
        ],
    )
    assert fetched.exit_code == 0, fetched.output
    done = runner.invoke(
        split, ["--raw", "data/raw", "--out", "data/split", "--metrics", "split.json"]
    )
    assert done.exit_code == 0, done.output

    data = Questions(Path("params.yaml"))

    for part in ("train", "dev", "test", "unlabelled"):
        assert data.part(part) == read_jsonl(Path(f"data/split/{part}.jsonl"), Question), part  # type: ignore[arg-type]
    assert len(data.part("train")) == TRAIN


def test_a_split_that_is_older_than_params_cannot_mislead(project):
    before = bill()
    stale = project / "data/split/train.jsonl"
    stale.parent.mkdir()
    stale.write_text("")

    assert bill() == before


def test_more_folds_have_more_to_ask(project):
    one = bill("reworded").rows[0].requests
    set_params(split={"protocol": "official", "folds": [0, 1]})

    assert bill("reworded").rows[0].requests > one


def test_a_file_of_ones_own_is_read_where_it_is(project):
    path = project / "elsewhere.json"
    shutil.copy("data/sample/pqal.json", path)
    file = {"source": "file", "path": str(path), "sha256": sha256_of(path), "unlabelled": None}
    set_params(data=file)

    assert bill("reworded").rows[0].requests == TRAIN
    set_params(data={**file, "sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="expected 0000"):
        bill()
    set_params(data={**file, "path": "gone.json"})
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        bill()


PUBMEDQA = {
    "source": "pubmedqa",
    "url": "https://example.org/{revision}/ori_pqal.json",
    "revision": "0" * 40,
    "unlabelled": None,
}


def test_questions_that_were_not_downloaded_are_not_guessed(project):
    sha256 = sha256_of(Path("data/sample/pqal.json"))
    set_params(data={**PUBMEDQA, "sha256": sha256})

    absent = plan()
    shutil.copytree("data/sample", "data/raw", ignore=shutil.ignore_patterns("cat*", "pqau*"))
    there = plan()
    set_params(data={**PUBMEDQA, "sha256": "0" * 64})
    other = plan()

    assert absent.exit_code == 10
    assert "data/raw: does not hold the questions that params.yaml names" in absent.stderr
    assert "`dvc repro split`" in absent.stderr
    assert there.exit_code == 0
    assert (other.exit_code, other.stderr) == (absent.exit_code, absent.stderr)


def test_unlabelled_questions_may_be_of_ones_own_or_downloaded(project):
    path = Path("data/sample/pqau.json")
    sha256 = sha256_of(path)
    asks = {"labels": {**ASK, "strategy": "pseudo-label", "questions": "unlabelled"}}

    def count(unlabelled: dict[str, Any]) -> int:
        set_params(data={"source": "sample", "unlabelled": unlabelled}, asks=asks)
        return bill().rows[0].requests

    assert count({"path": str(path), "sha256": sha256, "limit": 3}) == 3
    url = {"url": "https://example.org/pqau.json", "sha256": sha256, "limit": 4}
    with pytest.raises(DataError, match="`dvc repro split`"):
        count(url)
    Path("data/raw").mkdir()
    shutil.copy(path, "data/raw/pqau.json")
    assert count(url) == 4


# ---- what it leaves alone


def test_nothing_is_written(project):
    answer("reworded", 3)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    assert plan().exit_code == 0

    assert {p: p.read_bytes() for p in project.rglob("*") if p.is_file()} == before


def test_a_bill_for_an_endpoint_comes_without_torch_in_a_second_and_a_half(project):
    code = (
        "import sys; from medslm.cli import main; "
        "main(['plan', '--only', 'teacher'], standalone_mode=False); "
        "heavy = {'torch', 'transformers', 'openai', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False
        )
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
        assert "ask@reworded" in done.stdout

    assert min(seconds) < 1.5


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_it_needs_no_network(project):
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel lets nobody unshare a network")

    done = subprocess.run(
        [*alone, sys.executable, "-m", "medslm.cli", "plan", "--only", "teacher"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "fits under max_usd" in done.stdout


# ---- the paper's setting


@pytest.mark.real
def test_the_papers_setting_has_a_bill(project, real_pubmedqa):
    text = apply_profile(
        (ROOT / "params.yaml").read_text(encoding="utf-8"), load_profile("pubmedqa")
    )
    Path("params.yaml").write_text(use_questions(text, real_pubmedqa), encoding="utf-8")

    rows = bill("openai-rewrite", "openai-new").rows

    assert [(row.requests, row.to_ask) for row in rows] == [(450, 450), (900, 900)]
    needed = sum(found.expected for row in rows if (found := row.costs["sync"]) is not None)
    assert 800_000 < needed < 1_800_000  # gpt-5.4-mini, prices of 2026-10-14
