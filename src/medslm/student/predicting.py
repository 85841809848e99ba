"""Predictions of held-out questions: by trained cells, by the untuned model, by the class shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from medslm.data.records import ANSWERS, Answer, Prediction, Question
from medslm.data.split import Fold
from medslm.errors import DataError
from medslm.models import Loaded
from medslm.student.cached import CachedStates
from medslm.student.cached_scoring import CachedScorer
from medslm.student.cells import cell_name
from medslm.student.methods import take_off
from medslm.student.scoring import Scorer, best_answer, with_adapter

Probabilities = dict[Answer, float]


def predict_cells(
    loaded: Loaded,
    models: Path,
    folds: Mapping[str, Fold],
    seeds: Sequence[int],
    dev: Sequence[Question],
    test: Sequence[Question],
    *,
    max_tokens: int,
    batch_size: int,
    states: CachedStates | None = None,
) -> Iterator[Prediction]:
    """Yield each cell's answers to its own dev fold and to the test questions.

    With ``states`` of these prompts only the layers above them run.
    """
    for name, fold in folds.items():
        for seed in seeds:
            folder = models / cell_name(int(name), seed)
            if not (folder / "adapter_model.safetensors").is_file():
                raise DataError(f"{folder}: holds no adapter; run the train stage")
            tuned = with_adapter(loaded, folder)
            sizes = {"max_tokens": max_tokens, "batch_size": batch_size}
            scorer = CachedScorer(tuned, states, **sizes) if states else Scorer(tuned, **sizes)
            own = _members(dev, fold.dev)
            found = scorer.probabilities([(q.context, q.question) for q in [*own, *test]])
            yield from _rows("dev", int(name), seed, own, found[: len(own)])
            yield from _rows("test", int(name), seed, test, found[len(own) :])
            take_off(tuned.model)


def predict_untuned(
    scorer: Scorer, folds: Mapping[str, Fold], dev: Sequence[Question], test: Sequence[Question]
) -> Iterator[Prediction]:
    """Yield the untuned model's answers, each question asked once, a row for every fold."""
    found_dev = dict(zip((q.pmid for q in dev), _ask(scorer, dev), strict=True))
    found_test = _ask(scorer, test)
    for name, fold in folds.items():
        own = _members(dev, fold.dev)
        yield from _rows("dev", int(name), 0, own, [found_dev[q.pmid] for q in own])
        yield from _rows("test", int(name), 0, test, found_test)


def predict_majority(
    folds: Mapping[str, Fold],
    train: Sequence[Question],
    dev: Sequence[Question],
    test: Sequence[Question],
) -> Iterator[Prediction]:
    """Yield the shares of the answers in each fold's training questions as everyone's probabilities."""
    for name, fold in folds.items():
        answers = [q.answer for q in _members(train, fold.train)]
        shares: Probabilities = {a: round(answers.count(a) / len(answers), 6) for a in ANSWERS}
        own = _members(dev, fold.dev)
        yield from _rows("dev", int(name), 0, own, [shares] * len(own))
        yield from _rows("test", int(name), 0, test, [shares] * len(test))


def _ask(scorer: Scorer, questions: Sequence[Question]) -> list[Probabilities]:
    return scorer.probabilities([(q.context, q.question) for q in questions])


def _members(questions: Sequence[Question], pmids: Sequence[str]) -> list[Question]:
    wanted = set(pmids)
    return [q for q in questions if q.pmid in wanted]


def _rows(
    split: Literal["dev", "test"],
    fold: int,
    seed: int,
    questions: Sequence[Question],
    found: Sequence[Probabilities],
) -> Iterator[Prediction]:
    for question, probabilities in zip(questions, found, strict=True):
        yield Prediction(
            split, fold, seed, question.pmid, probabilities, best_answer(probabilities)
        )
