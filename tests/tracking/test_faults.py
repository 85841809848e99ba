"""Table E: what can happen to the ledger, the registry and promotion, one named test or more for each."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from medslm.cli import main
from medslm.errors import Diverged, NotPromotable, TrackingDown
from medslm.tracking import registry, spool
from medslm.tracking.registry_lock import held
from medslm.tracking.sync import sync
from tests.code_deps import ROOT
from tests.stages.test_track import COMMAND
from tests.stages.test_track import run as run_stage
from tests.tracking.project import (
    EXPERIMENT,
    MLFLOW_WARNING,
    MODEL,
    Project,
    grep,
    private_environment,
    require_whole,
)
from tests.tracking.servers import FAIL, HANG, LOSE, PASS, SWALLOW, let_pass, proxied

# the forks of this file are killed before they could meet a lock that another thread held
FORK_WARNING = "ignore:.*use of fork:DeprecationWarning"
pytestmark = [
    pytest.mark.filterwarnings(MLFLOW_WARNING),
    pytest.mark.filterwarnings(FORK_WARNING),
]

CREATE_RUN, LOG_BATCH = "/runs/create", "/runs/log-batch"


def ours(store: Any) -> list[Any]:
    """Return the variants' and baselines' runs that are not deleted, in any state."""
    return list(store.client.search_runs([store.experiment_id], "tags.`dvc.fingerprint` != ''"))


def first(count: int, what: str, word: str) -> Callable[[str, str], str]:
    """Return a rule that does this to the first so many requests whose path has a word in it."""
    left = [count]

    def rule(method: str, path: str) -> str:
        if word in path and left[0] > 0:
            left[0] -= 1
            return what
        return PASS

    return rule


# --- E1 to E3: the server


def test_e01_a_server_that_is_down_at_the_start_costs_seconds_and_the_runs_wait(tmp_path):
    project = Project(tmp_path / "project").fill()
    project.lay_empty_database()
    started = time.monotonic()

    down = run_stage(project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")

    took = time.monotonic() - started
    assert down.returncode == 50
    assert down.stderr.splitlines()[-1].startswith("error[50]: MLflow at http://127.0.0.1:9 failed")
    assert not (project.root / "reports/mlflow_runs.json").exists()
    assert "3 run(s) wait in .work/spool: `medslm sync` sends each once" in down.stderr
    assert "Traceback" not in down.stderr
    assert took < 60  # MLflow's own defaults: 247 s
    assert len(spool.waiting(project.root)) == 3
    back = run_stage(project)
    assert "0 runs logged, 3 reused" in back.stderr  # what waited was sent first
    assert spool.waiting(project.root) == []


@pytest.mark.slow
@pytest.mark.parametrize(("word", "what"), [(CREATE_RUN, FAIL), (LOG_BATCH, HANG)])
def test_e02_a_server_that_fails_in_the_middle_leaves_runs_that_sync_sends_once(
    project, server, monkeypatch, word, what
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0" if what == HANG else "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1" if what == HANG else "5")
    with proxied(server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        passed: list[str] = []

        def second_run_fails(method: str, path: str) -> str:
            passed.extend([path] if word in path else [])
            return what if word in path and len(passed) > 1 else PASS

        proxy.rule = second_run_fails
        found = project.records()
        with (
            pytest.raises(TrackingDown, match=r"3 run\(s\) wait"),
            spool.kept_if_down(project.root, EXPERIMENT, found),
            project.store() as store,
        ):
            project.track(store)
        proxy.rule = let_pass
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

        first_sync, second_sync = sync(project.root, None), sync(project.root, None)

        with project.store() as store:
            runs = ours(store)
    assert (first_sync.sent, second_sync.sent) == (3, 0)
    assert [r.info.status for r in runs] == ["FINISHED"] * 3
    assert len({r.data.tags["dvc.fingerprint"] for r in runs}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("word", [CREATE_RUN, LOG_BATCH])
def test_e03_an_answer_that_is_lost_on_the_way_makes_no_second_run(
    project, server, monkeypatch, word
):
    with proxied(server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        with project.store():
            pass
        proxy.rule = first(1, LOSE, word)

        with project.store() as store:
            tracked = project.track(store)
            runs = ours(store)
    sent = [path for _, path in proxy.seen if CREATE_RUN in path]
    assert len([r for r in runs if "dvc.fingerprint" in r.data.tags]) == 3
    assert {r.info.run_id for r in runs} == {t.run_id for t in tracked.values()}
    assert {r.info.status for r in runs} == {"FINISHED"}
    if word == CREATE_RUN:  # control: without the clean-up there would be one run more
        assert len(sent) == 3 + len({"none", "new"}) + 1


# --- E4: the database


def test_e04_a_second_writer_is_waited_for_and_the_database_stays_whole(project):
    with project.store() as store:
        other = sqlite3.connect(project.root / "mlflow.db", check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(1.0, other.rollback).start()
        started = time.monotonic()

        tracked = project.track(store)

        assert time.monotonic() - started > 0.5
        assert len(ours(store)) == len(tracked) == 3
    other.close()
    assert sound(project)


def test_e04_a_database_that_cannot_be_written_is_one_line(project, monkeypatch):
    with project.store():
        pass
    uri = f"sqlite:///file:{project.root}/mlflow.db?mode=ro&uri=true"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    with pytest.raises(TrackingDown, match="readonly database") as caught, project.store() as store:
        project.track(store)

    assert "\n" not in str(caught.value)
    assert sound(project)


@pytest.mark.slow
def test_e04_a_full_disk_is_one_line_and_the_next_run_completes_the_work(tmp_path):
    project = Project(tmp_path / "project").fill()
    project.lay_empty_database()
    room = (project.root / "mlflow.db").stat().st_size + 4096

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run(
        COMMAND,
        cwd=project.root,
        env=private_environment(project.root),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=full,
    )

    assert done.returncode in (40, 50), done.stderr
    assert "Traceback" not in done.stderr
    assert sound(project)
    again = run_stage(project)
    assert again.returncode == 0, again.stderr
    with project.store() as store:
        assert len([r for r in ours(store) if r.info.status == "FINISHED"]) == 3


def sound(project: Project) -> bool:
    with sqlite3.connect(project.root / "mlflow.db") as database:
        return database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- E5: values


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_e05_a_value_that_is_not_finite_is_refused_before_anything_is_logged(project, number):
    path = project.root / "metrics/score/new.json"
    path.write_text(path.read_text().replace("0.6,", f"{number},"))
    project.relock()

    with project.store() as store:
        with pytest.raises(Diverged):
            project.track(store)
        assert ours(store) == []


def test_e05_a_param_that_changed_makes_another_run_and_never_changes_one(project):
    with project.store() as store:
        before = project.track(store)["new"].run_id
        project.write_params(tune={"method": "lora", "lr": 0.5})
        after = project.relock().track(store)["new"].run_id

        params = [store.client.get_run(run).data.params["tune.lr"] for run in (before, after)]

    assert params == ["0.001", "0.5"]


# --- E7 to E10 and E12: versions


@pytest.mark.slow
def test_e07_a_package_that_did_not_arrive_whole_is_not_registered(project, server, monkeypatch):
    with proxied(server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        with project.store() as store:
            tracked = project.track(store)
            proxy.rule = lambda method, path: (
                SWALLOW if method == "PUT" and "adapter_model" in path else PASS
            )
            with pytest.raises(NotPromotable, match="did not arrive whole"):
                project.register(store, tracked)
            assert store.client.search_model_versions(f"name = '{MODEL}'") == []
            proxy.rule = let_pass

            assert project.register(store, tracked).version == "1"


GAPS = [
    "create_logged_model",
    "log_model_artifacts",
    "finalize_logged_model",
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
]
MOVES = [
    "create_registered_model",
    "set_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_tag",
    "delete_registered_model",
]


def killed_after(project: Project, method: str, work: Callable[[Any], object]) -> None:
    """Do ``work`` with the store in a process that is killed right after its first call of a method."""
    pid = os.fork()
    if pid == 0:
        with project.store() as store:
            call = getattr(store.client, method)

            def last(*args: Any, **kwargs: Any) -> None:
                call(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(store.client, method, last)
            work(store)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"{method} was not called"


@pytest.mark.parametrize("method", GAPS)
def test_e08_a_kill_in_any_gap_of_registering_leaves_nothing_half_and_the_next_run_one_version(
    project, method
):
    with project.store() as store:
        tracked = project.track(store)

    killed_after(project, method, partial(project.register, tracked=tracked))

    with project.store() as store:
        between = store.client.search_model_versions(f"name = '{MODEL}'")
        for found in between:
            require_whole(store, registry.version(store, MODEL, found.version))
        version = project.register(store, tracked)
        require_whole(store, version)
        versions = store.client.search_model_versions(f"name = '{MODEL}'")
        models = store.client.search_logged_models([store.experiment_id])
        assert [str(v.version) for v in versions] == [version.version] == ["1"]
        assert registry.alias(store, MODEL, "challenger") == "1"
    assert [m.status.value for m in models] == ["READY"]


def test_e08_a_kill_in_any_gap_of_moving_the_champion_leaves_one_that_is_whole(project):
    with project.store() as store:
        old = project.register(store, project.track(store)).version
        project.write_variant("new", 0.7)
        new = project.relock().register(store, project.track(store)).version

    def move(store: Any, to: str = new, before: str | None = old) -> None:
        with held(store, MODEL):
            registry.move_aliases(store, MODEL, champion=to, previous=before, why="promote")

    for method in MOVES:
        with project.store() as store:
            move(store, to=old, before=new)

        killed_after(project, method, move)

        with project.store() as store:
            champion = registry.alias(store, MODEL, "champion")
            assert champion in (old, new), method
            require_whole(store, registry.version(store, MODEL, str(champion)))
            move(store)
            aliases = [registry.alias(store, MODEL, name) for name in ("champion", "previous")]
            assert aliases == [new, old], method
            assert [m.name for m in store.client.search_registered_models()] == [MODEL], method


def test_e10_a_package_that_changed_after_registration_is_not_loaded(asked):
    project, ask = asked
    before = ask()
    weights = next((project.root / "mlruns").rglob("adapter_model.safetensors"))
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)

    after = ask()

    assert before.exit_code == 0, before.output
    assert after.exit_code == 11
    assert "adapter_model.safetensors: sha256 is" in after.stderr


def test_e12_a_foreign_model_that_names_code_to_run_is_not_loaded(asked, tmp_path):
    project, ask = asked
    marker, foreign = tmp_path / "marker", tmp_path / "foreign"
    (foreign / "code").mkdir(parents=True)
    (foreign / "artifacts/adapters").mkdir(parents=True)
    (foreign / "artifacts/adapters/weights.bin").write_bytes(b"pickle")
    (foreign / "code/evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    flavor = {"loader_module": "evil", "code": "code", "data": "artifacts"}
    (foreign / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))
    with project.store() as store:
        for tags in ({}, {registry.MANIFEST_SHA256: "0" * 64}):
            made = store.client.create_model_version(MODEL, foreign.as_uri(), tags=tags)
            store.client.set_registered_model_alias(MODEL, "champion", made.version)

            done = ask()

            assert done.exit_code == 11, done.output
            assert "it is not loaded" in done.stderr
    assert not marker.exists()


@pytest.fixture
def asked(project, tiny_llama, monkeypatch, tmp_path):
    """A project whose champion is a real tiny model, and a call of `medslm answer`."""
    project.tune(tiny_llama)
    with project.store() as store:
        version = project.register(store, project.track(store)).version
        registry.move_aliases(store, MODEL, champion=version, previous=None, why="promote")
    monkeypatch.chdir(project.root)
    context = tmp_path / "abstract.txt"
    context.write_text("Stay was 4 days, not 6.")

    def ask() -> Any:
        words = ["answer", "Does it shorten the stay?", "--context", str(context)]
        return CliRunner().invoke(main, words)

    return project, ask


# --- E11 and E14


def test_e11_a_run_left_open_by_a_killed_process_is_closed_with_the_reason(project):
    with project.store():
        pass
    killed_after(project, "log_batch", project.track)

    with project.store() as store:
        [before] = ours(store)
        project.write_variant("none", 0.55)  # so that its results are not those of the killed one
        project.relock()
        project.track(store)
        after = store.client.get_run(before.info.run_id)

    assert before.info.status == "RUNNING"
    assert after.info.status == "KILLED"
    assert re.fullmatch(r"process \d+ died before it was done", after.data.tags["medslm.closed"])


def test_e14_no_secret_reaches_the_store_the_spool_or_a_message(project, monkeypatch):
    canary = "sk-canary-0123456789"
    project.write_params(data={"source": "file", "url": f"https://user:{canary}@host/x.json"})
    project.relock()
    for words in (("init", "-q"), ("remote", "add", "origin", f"https://me:{canary}@host/x.git")):
        subprocess.run(["git", *words], cwd=project.root, check=True)
    secret = {"OPENAI_API_KEY": canary, "MLFLOW_TRACKING_TOKEN": canary}

    down = run_stage(project, MLFLOW_TRACKING_URI=f"http://me:{canary}@127.0.0.1:9", **secret)
    for name, value in secret.items():
        monkeypatch.setenv(name, value)
    with project.store() as store:
        tracked = project.track(store)
        project.register(store, tracked)
        logged = store.client.get_run(tracked["none"].run_id).data.params["data.url"]

    assert down.returncode == 50, down.stderr
    assert canary not in down.stderr + down.stdout
    assert logged == "https://***@host/x.json"
    assert grep(project.root, canary) == [".git/config", "params.yaml"]
    assert grep(project.root / ".work/spool", "***@host") != []  # control: what was masked is there


# --- the table itself


def test_the_page_of_promises_and_these_tests_name_the_same_faults():
    page = (ROOT / "docs/tracking.md").read_text(encoding="utf-8")
    section = page[page.index("## What is promised") :]
    told = set(re.findall(r"`(e\d\d)`", section))
    tests = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"def test_(e\d\d)_", tests))

    assert told == named == {f"e{n:02}" for n in range(1, 15)} - {"e06"}
