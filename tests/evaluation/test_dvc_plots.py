"""`dvc plots diff` draws our CSV files with our templates, two commits in one picture."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import altair
import pytest
import yaml

from medslm.evaluation.compare import compare
from medslm.evaluation.pictures import confusion_csv, reliability_csv, scores_csv
from medslm.files import write_text
from tests.code_deps import ROOT
from tests.evaluation.worlds import sheet

PLOTS = {
    path: options
    for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    if isinstance(entry, dict)
    for path, options in entry.items()
}


def write_plots(root, strength):
    sheets = {n: sheet(n, dev=strength, test=strength) for n in ("majority", "none")}
    found = compare(sheets, variants=["none"], baselines=["majority"], metric="dev.nll")
    folder = root / "reports/plots"
    write_text(folder / "confusion.csv", confusion_csv(sheets["none"]))
    write_text(folder / "reliability.csv", reliability_csv(sheets["none"]))
    write_text(folder / "accuracy.csv", scores_csv(found, "accuracy"))
    write_text(folder / "macro-f1.csv", scores_csv(found, "macro_f1"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("plots")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "GIT_"))}
    site = {"DVC_SITE_CACHE_DIR": str(root / ".dvc/tmp/site"), "DVC_NO_ANALYTICS": "1"}

    def run(*command):
        done = subprocess.run(
            command, cwd=root, env={**kept, **site}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "init", "-q")
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots", dirs_exist_ok=True)
    write_text(root / "dvc.yaml", yaml.safe_dump({"plots": [{p: o} for p, o in PLOTS.items()]}))
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for strength in (0.3, 0.8):
        write_plots(root, strength)
        run("git", *author, "add", "--all")
        run("git", *author, "commit", "-q", "-m", f"{strength}")
    said = run(sys.executable, "-m", "dvc", "plots", "diff", "HEAD~1", "HEAD", "--json")
    return json.loads(said)


def test_every_csv_of_the_pipeline_is_drawn_and_none_fails(drawn):
    assert not drawn.get("errors")
    found = {name.split("::")[-1] for name in drawn["data"]}
    assert found == set(PLOTS)
    assert len(found) == 4


@pytest.mark.parametrize(
    "path", [path for path, options in PLOTS.items() if options["template"] != "confusion"]
)
def test_a_picture_by_our_templates_is_valid_and_holds_both_commits(drawn, path):
    [[plot]] = [plots for name, plots in drawn["data"].items() if name.split("::")[-1] == path]
    text = json.dumps(plot["content"]) if isinstance(plot["content"], dict) else plot["content"]
    for name, value in (plot.get("anchor_definitions") or {}).items():
        filled = value if isinstance(value, str) else json.dumps(value)
        text = text.replace(
            f'"<DVC_METRIC_{name.upper()}>"', filled if filled[:1] in '[{"' else json.dumps(filled)
        )
        text = text.replace(f"<DVC_METRIC_{name.upper()}>", filled.strip('"'))

    assert "<DVC_METRIC" not in text
    altair.Chart.from_dict(json.loads(text))  # raises for what is no Vega-Lite
    assert {row["rev"] for row in json.loads(text)["data"]["values"]} == {"HEAD~1", "HEAD"}
