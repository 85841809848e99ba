"""Before weights are loaded: whether this machine can finish the training of one variant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from medslm.data.records import Example, Question
from medslm.errors import DataError
from medslm.student.machine import Machine, free_disk, free_memory, probe
from medslm.student.plan import Workload, estimates, require_feasible
from medslm.student.prompting import prompt
from medslm.student.settings import StudentParams, TuneParams
from medslm.student.shapes import read_shape

Hours = Annotated[float, Field(gt=0)]

# Characters a token on PubMedQA with SmolLM2's tokenizer: 1,000 prompts hold 1,483 characters and 339
# tokens in the mean, and 3.5 for the longest of them. No tokenizer has to be loaded for an estimate.
_CHARACTERS = 4.4
_CHARACTERS_OF_LONGEST = 3.5

# A rate that one core of an old laptop makes. What fits at this rate needs no probe.
_SLOW = 2e10


def mean_and_longest(texts: Sequence[tuple[str, str]], max_tokens: int) -> tuple[float, int]:
    """Return the mean and the greatest length in tokens of prompts (context, question), from characters."""
    lengths = [len(prompt(context, question)) for context, question in texts]
    mean = sum(min(n / _CHARACTERS, max_tokens) for n in lengths) / len(lengths)
    return mean, min(max_tokens, round(max(lengths) / _CHARACTERS_OF_LONGEST))


def training(
    variant: str,
    examples: Sequence[Example],
    dev: Sequence[Question],
    *,
    folds: int,
    student: StudentParams,
    tune: TuneParams,
) -> Workload:
    """Return the work of one variant's `train`, from the examples themselves."""
    texts = [(e.context, e.question) for e in examples] + [(q.context, q.question) for q in dev]
    tokens, longest = mean_and_longest(texts, student.max_tokens)
    return Workload(
        examples={variant: len(examples)},
        dev=math.ceil(len(dev) / folds),
        test=0,
        folds=folds,
        seeds=len(tune.seeds),
        tokens=tokens,
        longest=longest,
        distinct=len(set(texts)),
    )


def require_trainable(
    work: Workload, student: StudentParams, tune: TuneParams, max_hours: float, folder: Path
) -> None:
    """Raise TooLarge if this machine cannot train ``work`` in ``max_hours``; no weight is read.

    A small job is let through at once; only a doubtful one costs the two seconds of a probe.
    """
    try:
        shape = read_shape(student.model, student.revision)
    except DataError:
        return  # loading will say what is wrong with the model, or reads it another way
    slow = Machine("cpu", 1, "float32", _SLOW, free_memory(), free_disk(folder))
    found = estimates(shape, student, tune, work, slow)
    hours = sum(one.seconds for one in found) / 3600
    if hours < max_hours and max(one.memory for one in found) < slow.memory:
        return
    machine = probe(shape, student.dtype, folder)
    found = estimates(shape, student, tune, work, machine)
    require_feasible(found, shape, student, tune, work, machine, max_hours)
