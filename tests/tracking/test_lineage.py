"""Every model leads back to raw bytes and commands, studies and pairs forward to the models that saw them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from medslm.cli import main
from medslm.errors import DataError, ParamsError
from medslm.files import dump_json, sha256_of, write_json, write_text
from medslm.tracking import lineage
from medslm.tracking.chain import chain
from medslm.tracking.lockfile import entries_of, md5_of, read_lock
from medslm.tracking.registry import run_of
from medslm.tracking.tracing import trace
from tests.tracking.project import MLFLOW_WARNING, MODEL, Project, private_environment

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)

KEPT, DROPPED, UNREAD = "local-new:1:0", "local-new:1:1", "local-new:2:0"


def lines(path: Path, rows: list[dict[str, object]]) -> None:
    write_text(path, "".join(dump_json(row) + "\n" for row in rows))


def mix_row(pmid: str, source: str, pair_id: str | None) -> dict[str, object]:
    said = {"question": "Is it?", "answer": "yes"}
    return {"pmid": pmid, "source": source, "pair_id": pair_id, **said}


@pytest.fixture
def traced(project: Project) -> Project:
    """The files of a project with an ask, to be changed."""
    return with_an_ask(project)


def with_an_ask(project: Project) -> Project:
    """A project with an ask of three replies: kept, dropped, unreadable; variant `new` has the kept one."""
    root = project.root
    study = {"PMID": "1"}
    write_json(root / "data/raw/pqal.json", study)
    replies, pairs = [], []
    for pair_id in (KEPT, DROPPED, UNREAD):
        ask, pmid, index = pair_id.split(":")
        where = {"key": f"key of {pair_id}", "pmid": pmid, "index": int(index), "strategy": "new"}
        served = {
            "teacher": "local",
            "served_model": "tiny",
            "prompt": "v1",
            "finish_reason": "stop",
        }
        replies.append({**where, **served})
        pairs.append({"id": pair_id, "pmid": pmid, "question": "Is it?", "answer": "yes"})
    lines(root / f"data/replies/{ask}.jsonl", replies)
    lines(root / f"data/pairs/{ask}/pairs.jsonl", pairs[:2])
    lines(
        root / f"data/pairs/{ask}/unreadable.jsonl", [{"key": replies[2]["key"], "reason": "empty"}]
    )
    lines(root / f"data/checked/{ask}/kept.jsonl", pairs[:1])
    reasons = ["leak", "too_long"]
    lines(root / f"data/checked/{ask}/dropped.jsonl", [{"pair": pairs[1], "reasons": reasons}])
    lines(
        root / f"data/votes/{ask}.jsonl",
        [
            {"pair_id": p, "verifier": "judge", "answer": a}
            for p, a in ((KEPT, "yes"), (DROPPED, None))
        ],
    )
    write_json(root / "data/split/folds.json", {"0": {"train": ["1"], "dev": ["101"]}})
    real = [mix_row(pmid, "real", None) for pmid in ("1", "2", "101")]
    lines(root / "data/mix/none.jsonl", real)
    lines(root / "data/mix/new.jsonl", [*real, mix_row("1", "local-new", KEPT)])
    return project.relock()


def with_a_champion(project: Project) -> Project:
    with project.store() as store:
        project.register(store, project.track(store))
        store.client.set_registered_model_alias(MODEL, "champion", "1")
    return project


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a champion, which no test changes."""
    project = Project(tmp_path_factory.mktemp("lineage") / "project").fill()
    return with_a_champion(with_an_ask(project))


@pytest.fixture
def own(traced: Project) -> Project:
    """A project with a champion, to be changed."""
    return with_a_champion(traced)


def git(project: Project, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=project.root,
        env=private_environment(project.root),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_the_chain_goes_from_raw_bytes_to_scores_and_leaves_out_what_is_not_behind_them(traced):
    lock = read_lock(traced.root / "dvc.lock", entries_of(traced.root / "params.yaml"))

    found = [link.stage for link in chain(lock, ["score@new"])]

    assert found == ["fetch", "split", "mix@new", "train@new", "predict@new", "score@new"]
    assert "mix@none" in [link.stage for link in chain(lock, ["score@none"])]
    [link] = [link for link in chain(lock, ["score@new"]) if link.stage == "mix@new"]
    assert link.written == {"data/mix/new.jsonl": md5_of(traced.root / "data/mix/new.jsonl")}


def test_a_folder_leads_to_all_who_wrote_into_it_and_code_is_left_out():
    lock = {
        "b": {"cmd": "b", "outs": [{"path": "data/checked/b", "md5": "2"}]},
        "a": {"cmd": ["a", "a  2"], "outs": [{"path": "data/checked/a", "md5": "1"}]},
        "mix": {
            "cmd": "mix",
            "deps": [{"path": "data/checked", "md5": "3"}, {"path": "src/x.py", "md5": "4"}],
            "outs": [],
        },
        "other": {"cmd": "other", "outs": [{"path": "data/checked-more", "md5": "5"}]},
    }

    found = chain(lock, ["mix"])

    assert [link.stage for link in found] == ["a", "b", "mix"]
    assert found[0].commands == ("a", "a 2")
    assert found[2].read == {"data/checked": "3"}


def test_a_version_leads_back_to_the_raw_bytes_and_to_its_commit(own):
    root = own.root
    write_text(root / ".gitignore", "mlflow.db*\nmlruns/\n")
    git(own, "init", "--quiet")
    git(own, "add", "--all")
    git(own, "commit", "--quiet", "--message", "results")
    commit = git(own, "rev-parse", "HEAD")
    git(own, "commit", "--quiet", "--allow-empty", "--message", "later")

    said = trace(root, "champion", reproduce=True)

    assert said == trace(root, "v1", reproduce=True)
    assert said.startswith(f"{MODEL} version 1 (challenger, champion)\n")
    assert f"commit       {commit}" in said
    assert f"data/raw/pqal.json  sha256 {sha256_of(root / 'data/raw/pqal.json')}" in said
    assert f"writes  models/new  {md5_of(root / 'models/new')}" in said
    assert "trained on   1 local-new, 3 real" in said
    assert f"git checkout {commit}\n" in said
    assert "dvc repro mix@new train@new predict@new score@new" in said
    ran = said[said.index("# from nothing") :].splitlines()[1:]
    assert ran[0] == "make fetch"
    assert ran[-1] == "make score@new"
    assert "# from nothing" not in trace(root, "v1", reproduce=False)


def test_a_version_is_traced_by_its_own_lock_though_the_project_moved_on(own):
    before = trace(own.root, "v1", reproduce=False)
    mix = own.root / "data/mix/new.jsonl"
    md5, kept = md5_of(mix), mix.read_bytes()
    own.write_variant("new", 0.9)
    own.relock()

    after = trace(own.root, "v1", reproduce=False)
    cached = own.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(kept)
    again = trace(own.root, "v1", reproduce=False)

    assert "data/mix/new.jsonl, whose bytes are not here: `dvc fetch`" in after
    assert after.split("trained on")[0] == before.split("trained on")[0]
    assert again == before


def test_a_run_of_a_baseline_and_one_of_a_cell_are_traced_too(registered):
    with registered.store() as store:
        tracked = registered.track(store)
        majority, new = tracked["majority"].run_id, tracked["new"].run_id
        [cell] = store.client.search_runs(
            [store.experiment_id], f"tags.`mlflow.parentRunId` = '{new}'"
        )

    baseline = trace(registered.root, majority, reproduce=True)

    assert baseline.startswith("run of baseline majority, not registered\n")
    assert "dvc repro baselines score_baselines" in baseline
    assert "train@" not in baseline
    assert trace(registered.root, cell.info.run_id, reproduce=False) == trace(
        registered.root, "v1", reproduce=False
    )


def test_a_kept_pair_is_followed_to_the_model_that_saw_it(registered):
    said = trace(registered.root, KEPT, reproduce=False)

    assert said.startswith(f"pair {KEPT}\n  source       PMID 1\n")
    md5 = md5_of(registered.root / "data/split/train.jsonl")
    assert f"in train  (data/split/train.jsonl, md5 {md5})" in said
    assert f"key of {KEPT}" in said
    assert "teacher local, tiny, prompt v1, ended with stop" in said
    assert f"{KEPT}  kept" in said
    assert "vote       yes by judge" in said
    assert "mix          new: 1 row(s)" in said
    assert "mix          none" not in said
    assert "version 1 (challenger, champion) (new): trained on 1 row(s) of it in fold 0" in said


@pytest.mark.parametrize(
    ("pair_id", "verdict"),
    [(DROPPED, "dropped: leak, too_long"), (UNREAD, "unreadable: empty")],
)
def test_a_pair_that_was_not_kept_says_why_and_no_model_saw_it(registered, pair_id, verdict):
    said = trace(registered.root, pair_id, reproduce=False)

    assert f"{pair_id}  {verdict}" in said
    assert "mix  " not in said
    assert "(new): never saw it" in said


@pytest.mark.parametrize(
    "other", [{"question": "Is it so?"}, {"answer": "no"}, {"context": "Another abstract."}]
)
def test_a_model_that_saw_another_pair_of_this_id_never_saw_this_one(own, other):
    """Asked anew with another seed, prompt or teacher, another pair stands in its place."""
    path = own.root / "data/pairs/local-new/pairs.jsonl"
    first, *rest = [json.loads(line) for line in path.read_text().splitlines()]
    lines(path, [{**first, **other}, *rest])

    said = trace(own.root, KEPT, reproduce=False)

    assert "(new): never saw it, but another pair that had this id then" in said


def test_a_pair_that_the_pool_left_out_says_so(own):
    row = {"pair": {"id": KEPT}, "reasons": ["near_duplicate"]}
    lines(own.root / "data/pool/dropped.jsonl", [row])

    said = trace(own.root, KEPT, reproduce=False)

    assert f"{KEPT}  kept, then left out of the pool: near_duplicate" in said


def test_a_study_is_followed_to_every_reply_mix_and_model(registered):
    said = trace(registered.root, "1", reproduce=False)

    assert "reply        local-new 0: " in said
    assert "reply        local-new 1: " in said
    assert "mix          new: 2 row(s)" in said
    assert "mix          none: 1 row(s)" in said
    assert "trained on 2 row(s) of it in fold 0" in said


def test_a_study_that_every_fold_holds_out_was_never_trained_on(registered):
    said = trace(registered.root, "101", reproduce=False)

    assert "in dev of fold 0" in said
    assert "no teacher was asked about it" in said
    assert "held out in every fold (0): never trained on it" in said


def test_a_study_held_out_in_one_fold_of_two_was_trained_on_in_the_other(traced):
    folds = {"0": {"train": ["1"], "dev": ["101"]}, "1": {"train": ["101"], "dev": ["1"]}}
    write_json(traced.root / "data/split/folds.json", folds)
    traced.relock()
    with traced.store() as store:
        traced.register(store, traced.track(store))

    said = trace(traced.root, "101", reproduce=False)

    assert "trained on 1 row(s) of it in fold 1, held out in fold 0" in said


def test_without_a_store_nothing_is_made_and_files_are_still_followed(traced):
    said = trace(traced.root, KEPT, reproduce=False)

    assert said.endswith("model        none is registered")
    assert not (traced.root / "mlflow.db").exists()


def test_a_commit_that_holds_other_results_is_not_named(own):
    git(own, "init", "--quiet")
    own.write_variant("new", 0.9)
    own.relock()
    git(own, "add", "dvc.lock")
    git(own, "commit", "--quiet", "--message", "others")

    assert "commit       none in git holds it" in trace(own.root, "v1", reproduce=False)
    with own.store() as store:
        origin = lineage.of_run(store, MODEL, own.track(store)["new"].run_id)
    assert lineage.commit_of(own.root, origin) == git(own, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("v9", "no version 9"),
        ("previous", "no version is previous yet"),
        ("0" * 32, "MLflow has no such run"),
        ("local-new:1:7", "holds no such reply"),
        ("nobody:1:0", "data/replies/nobody.jsonl holds no such reply"),
        ("99999", "PMID 99999: is in no part"),
        ("../../etc", "neither a version"),
    ],
)
def test_what_names_nothing_is_one_line(registered, monkeypatch, word, words):
    monkeypatch.chdir(registered.root)

    done = CliRunner().invoke(main, ["lineage", word])

    assert done.exit_code in (10, 51)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_track_did_not_log_and_commands_of_a_pair_are_refused(registered):
    with registered.store() as store:
        foreign = store.client.create_run(store.experiment_id).info.run_id
        assert run_of(store, foreign) is not None

    with pytest.raises(DataError, match="was not logged by `track`"):
        trace(registered.root, foreign, reproduce=False)
    with pytest.raises(ParamsError, match="--reproduce is for a version or a run"):
        trace(registered.root, KEPT, reproduce=True)
