"""Run one side of a student's benchmark in a process of its own and read its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OURS = ("-m", "benchmarks.student_side")


def run_side(words: list[str], *, python: str = sys.executable, limit_s: float = 1800) -> Any:
    """Return the JSON of a side's last line; raises SystemExit with the end of its stderr if it fails."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if python == sys.executable:
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    else:
        env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, *words], capture_output=True, text=True, check=False, env=env, timeout=limit_s
    )
    if done.returncode:
        raise SystemExit(f"{words[:2]} failed:\n{done.stderr[-3000:]}")
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    # said as it ends: a run that is stopped later has measured something
    brief = {key: value for key, value in figures.items() if key != "answers"}
    sys.stderr.write(f"{' '.join(words[:3])}: {json.dumps(brief)}\n")
    return figures


def model_folder() -> str:
    """Return the folder of the embedded model, unpacked if need be: both sides read the same weights."""
    from medslm.models import EMBEDDED, find

    return find(EMBEDDED, None).path


def peer_python(peers: Path) -> str:
    """Return the peers' interpreter."""
    return str(peers / "bin" / "python")
