"""The robustness sweep: one DVC experiment per value of a knob, queued here, run by DVC, read back here."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from medslm.errors import DataError, ParamsError
from medslm.evaluation.robustness import Point, point
from medslm.evaluation.sheet import Sheet
from medslm.params import Section
from medslm.student.settings import TuneParams

log = logging.getLogger(__name__)

Value = int | float | str | bool


class Line(Section):
    """One curve: the knob of `tune` that varies, its values, and what else is set along with it."""

    knob: str
    values: Annotated[list[int | float], Field(min_length=1)]
    fixed: dict[str, Value]

    @model_validator(mode="after")
    def _sets_knobs_of_tune(self) -> Self:
        known = set(TuneParams.model_fields) - {"method"}
        for name in (self.knob, *self.fixed):
            if name not in known:
                raise ValueError(f"tune.{name}: there is no such knob")
        return self


class SweepParams(Section):
    """Section `sweep`: the variant whose robustness is measured, and one line per method."""

    variant: Annotated[str, Field(min_length=1)]
    lines: Annotated[dict[str, Line], Field(min_length=1)]


class Experiment(NamedTuple):
    """One point of the sweep and the name of its DVC experiment."""

    name: str
    method: str
    line: Line
    value: float

    def overrides(self) -> list[str]:
        """Return what `dvc exp run -S` sets, in the order of the names."""
        settings = {**self.line.fixed, self.line.knob: self.value, "method": self.method}
        return [f"tune.{key}={json.dumps(settings[key])}" for key in sorted(settings)]


class Seen(NamedTuple):
    """What DVC says of an experiment: its commit and "success", "failed", "queued" or "running"."""

    revision: str
    state: str


def experiments(params: SweepParams) -> list[Experiment]:
    """Return every point of the sweep, line by line."""
    return [
        Experiment(f"sweep-{params.variant}-{method}-{line.knob}-{value:g}", method, line, value)
        for method, line in params.lines.items()
        for value in line.values
    ]


def queue(root: Path, params: SweepParams, environment: Mapping[str, str]) -> list[str]:
    """Queue every experiment that is not there yet and return the names of those queued now.

    Only what the variant's score needs will run. A failed one is queued again. Raises ParamsError if
    DVC refuses, with its reason.
    """
    there = seen(root, environment)
    queued = []
    for experiment in experiments(params):
        found = there.get(experiment.name)
        if found is not None and found.state != "failed":
            log.info("%s: %s already", experiment.name, found.state)
            continue
        if found is not None:
            _dvc(root, environment, "queue", "remove", experiment.name)
        sets = [word for override in experiment.overrides() for word in ("-S", override)]
        target = f"score@{params.variant}"
        _dvc(root, environment, "exp", "run", "--queue", "--name", experiment.name, *sets, target)
        queued.append(experiment.name)
    return queued


def seen(root: Path, environment: Mapping[str, str]) -> dict[str, Seen]:
    """Return DVC's experiments on the present commit by name."""
    said = _dvc(root, environment, "exp", "show", "--json")
    found: dict[str, Seen] = {}
    for baseline in json.loads(said):
        for entry in baseline.get("experiments") or []:
            state = (entry.get("executor") or {}).get("state") or "success"
            for revision in entry["revs"][:1]:
                found[entry["name"]] = Seen(revision["rev"], state)
    return found


def points(
    root: Path, params: SweepParams, environment: Mapping[str, str]
) -> tuple[list[Point], list[str]]:
    """Return the finished points in the order of the sweep, and a line on each that is missing.

    Raises DataError if none is finished or a finished one has no readable score sheet.
    """
    there = seen(root, environment)
    done, missing = [], []
    for experiment in experiments(params):
        found = there.get(experiment.name)
        if found is not None and found.state == "success":
            sheet = _sheet(root, found.revision, params.variant)
            done.append(
                point(experiment.method, experiment.line.knob, experiment.value, sheet.test)
            )
        else:
            missing.append(_why(experiment.name, found))
    if not done:
        raise DataError(
            f"no experiment of the sweep on this commit is finished ({missing[0]}); "
            "run `medslm sweep queue`, then `dvc queue start`"
        )
    return done, missing


def _why(name: str, found: Seen | None) -> str:
    if found is None:
        return f"{name}: not queued"
    if found.state == "failed":
        return f"{name}: failed, `dvc queue logs {name}` says why"
    return f"{name}: {found.state}"


def _sheet(root: Path, revision: str, variant: str) -> Sheet:
    path = f"metrics/score/{variant}.json"
    done = _run(root, None, "git", "show", f"{revision}:{path}")
    try:
        return TypeAdapter(Sheet).validate_json(done.stdout)
    except ValidationError as exc:
        raise DataError(
            f"{revision[:7]}:{path}: not a score sheet; run the experiment again ({exc.error_count()} "
            "problems)"
        ) from None


def _dvc(root: Path, environment: Mapping[str, str], *words: str) -> str:
    done = _run(root, environment, sys.executable, "-m", "dvc", *words)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.strip()]
        shown = reason[0] if reason else f"exit code {done.returncode}"
        raise ParamsError(f"dvc {' '.join(words[:2])} failed: {shown}")
    return done.stdout


def _run(
    root: Path, environment: Mapping[str, str] | None, *command: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
