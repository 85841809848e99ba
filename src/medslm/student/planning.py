"""The student's part of `medslm plan`: from params, questions and mixes to an estimate of every stage."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

from medslm.data.quotas import room
from medslm.data.records import ANSWERS, Answer, Example
from medslm.data.split import SplitParams
from medslm.data.variants import Balanced, Variants, asks_of, length_of
from medslm.errors import work_dir
from medslm.files import read_jsonl
from medslm.params import load_all, load_section
from medslm.student.feasible import Hours, mean_and_longest
from medslm.student.machine import Machine, probe
from medslm.student.plan import Estimate, Workload, estimates, require_feasible
from medslm.student.settings import StudentParams, TuneParams
from medslm.student.shapes import Shape, read_shape
from medslm.teacher.questions import Questions
from medslm.teacher.settings import AskParams, Name

_MIXES = Path("data/mix")


@dataclasses.dataclass(frozen=True)
class Planned:
    """An estimate of every stage, on which machine, and in ``remarks`` what it rests on."""

    shape: Shape
    machine: Machine
    work: Workload
    rows: list[Estimate]
    remarks: list[str]


def read_plan(params: Path) -> Planned:
    """Estimate the stages from features to score; two seconds of this machine, nothing is written.

    Raises what reading params, questions and a configuration raises; see ``require`` for a refusal.
    """
    student = load_section(params, "student", StudentParams)
    tune = load_section(params, "tune", TuneParams)
    load_all(params, "compute.max_hours", Hours)
    shape = read_shape(student.model, student.revision)
    work, remarks = _workload(params, student, tune)
    machine = probe(shape, student.dtype, work_dir())
    rows = estimates(shape, student, tune, work, machine)
    return Planned(shape, machine, work, rows, remarks)


def require(params: Path, planned: Planned) -> None:
    """Raise TooLarge if this machine cannot finish what is planned in compute.max_hours."""
    require_feasible(
        planned.rows,
        planned.shape,
        load_section(params, "student", StudentParams),
        load_section(params, "tune", TuneParams),
        planned.work,
        planned.machine,
        load_all(params, "compute.max_hours", Hours),
    )


def _workload(params: Path, student: StudentParams, tune: TuneParams) -> tuple[Workload, list[str]]:
    data = Questions(params)
    folds = len(load_section(params, "split", SplitParams).folds)
    train, dev, test = (data.part(name) for name in ("train", "dev", "test"))
    tokens, longest = mean_and_longest(
        [(q.context, q.question) for q in [*train, *dev, *test]], student.max_tokens
    )
    examples, remarks = _examples(params, data, len(train))
    largest = max(examples.values(), default=0)
    # the parts of several folds overlap: with more than one, a dev question of this is trained on there
    held = len({q.pmid for q in [*dev, *test]} - ({q.pmid for q in train}))
    work = Workload(
        examples=examples,
        dev=math.ceil(len(dev) / folds),
        test=len(test),
        folds=folds,
        seeds=len(tune.seeds),
        tokens=tokens,
        longest=longest,
        distinct=largest + held,
    )
    return work, remarks


def _examples(params: Path, data: Questions, train: int) -> tuple[dict[str, int], list[str]]:
    """Count each variant's examples: from its mix if there is one, else as if every pair were kept.

    Quotas then leave out what they would of the answers that the asks aim at.
    """
    asks = load_all(params, "asks", dict[Name, AskParams])
    found: dict[str, int] = {}
    guessed = []
    variants: Variants = load_all(params, "variants", Variants)
    # a control takes its length from a plain list, which therefore is counted before it
    for variant in sorted(variants, key=lambda name: length_of(variants, name) is not None):
        entry = variants[variant]
        names = asks_of(entry)
        mix = _MIXES / f"{variant}.jsonl"
        if mix.is_file():
            found[variant] = len(read_jsonl(mix, Example))
            continue
        if (longer := length_of(variants, variant)) is not None:
            found[variant] = found[longer]
            continue
        offered = [_offered(asks[name], data) for name in names]
        counts = {answer: sum(ask[answer] for ask in offered) for answer in ANSWERS}
        if isinstance(entry, Balanced):
            counts = {**room(Counter(_gold(data)), counts, entry.quotas)}
        found[variant] = train + round(sum(counts.values()))
        if names:
            guessed.append(variant)
    remarks = []
    if guessed:
        remarks.append(
            f"{', '.join(guessed)}: no mix is here yet, counted as if every generated pair were kept"
        )
    return {variant: found[variant] for variant in variants}, remarks


def _offered(ask: AskParams, data: Questions) -> dict[Answer, float]:
    """Return how many pairs of each answer an ask gives, all kept: what it aims at, else as in train."""
    sources = len(data.part(ask.questions))
    gold = Counter(_gold(data))
    shares = ask.answers or {a: gold[a] / max(1, gold.total()) for a in ANSWERS}
    return {answer: ask.per_question * sources * shares.get(answer, 0) for answer in ANSWERS}


def _gold(data: Questions) -> list[Answer]:
    return [question.answer for question in data.part("train") if question.answer is not None]
