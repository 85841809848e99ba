"""Two commits side by side: what their models answered, and the settings and data that changed with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from medslm.data.records import Answer, Prediction
from medslm.errors import DataError
from medslm.evaluation import history
from medslm.evaluation.changes import Changes, Setting, changes, settings
from medslm.evaluation.compare import lines_above
from medslm.evaluation.differences import Difference, Split
from medslm.evaluation.history import NotCachedError, Revision
from medslm.evaluation.paired import differences
from medslm.evaluation.testset import digest_of

T = TypeVar("T")
Content = tuple[str, ...]

METRICS = ("accuracy", "macro_f1", "nll")
CONTENT = ("question", "context", "sections", "answer", "long_answer")
SPLITS: tuple[Split, ...] = ("test", "dev")
PREDICTIONS, SPLIT, CHECKED = "data/predictions", "data/split", "data/checked"


class Scores(NamedTuple):
    """A model's test scores in both commits, by metric; None where a commit has none."""

    name: str
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]


class AskChanges(NamedTuple):
    """How the kept pairs of an ask changed; ``reasons`` counts why those that vanished are dropped now."""

    ask: str
    kept: Changes
    reasons: Mapping[str, int]


class Side(NamedTuple):
    """What a commit calls its models, and which one it chose; None before the first comparison."""

    revision: Revision
    subject: str
    models: tuple[str, ...]
    chosen: str | None


class CommitsCompared(NamedTuple):
    """Everything that differs. ``notes`` say what could not be compared and why."""

    before: Side
    after: Side
    scores: list[Scores]
    unchanged: list[str]
    differences: list[Difference]
    settings: list[Setting]
    questions: dict[str, Changes]
    asks: list[AskChanges]
    code: list[str]
    notes: list[str]
    missing: list[str]


def compare_commits(before: Revision, after: Revision) -> CommitsCompared:
    """Compare the models of two commits on the same questions, paired, and list what changed."""
    sides = [_side(rev) for rev in (before, after)]
    old, new = (set(side.models) for side in sides)
    shared = [name for name in sides[1].models if name in old & new]
    missing: list[str] = []
    notes = [f"{name}: only in {before.name}" for name in sides[0].models if name not in new]
    notes += [f"{name}: only in {after.name}" for name in sides[1].models if name not in old]
    changed = [name for name in shared if not _same(before, after, f"{PREDICTIONS}/{name}.jsonl")]
    pairs = [(name, name) for name in changed]
    if None not in (chosen := (sides[1].chosen, sides[0].chosen)) and chosen[0] != chosen[1]:
        pairs = [(str(chosen[0]), str(chosen[1])), *pairs]
    tested, why = _tested(before, after, pairs, missing)
    same_test = not any(note.startswith("test:") for note in why)
    return CommitsCompared(
        before=sides[0],
        after=sides[1],
        scores=[_scores(before, after, name) for name in changed] if same_test else [],
        unchanged=[name for name in shared if name not in changed],
        differences=tested,
        settings=settings(*(history.yaml_of(rev, "params.yaml") for rev in (before, after))),
        questions=_questions(before, after, missing),
        asks=_asks(before, after, missing),
        code=_code(before, after),
        notes=notes + why,
        missing=list(dict.fromkeys(missing)),
    )


def _side(rev: Revision) -> Side:
    params = history.yaml_of(rev, "params.yaml")
    named = (params.get("compare") or {}).get("baselines") or []
    models = [*lines_above(named, params.get("answers") or {}), *(params.get("variants") or {})]
    verdict = history.json_of(rev, "metrics/compare.json")
    chosen = verdict.get("chosen") if isinstance(verdict, dict) else None
    return Side(rev, history.subject(rev), tuple(models), chosen)


def _same(before: Revision, after: Revision, path: str) -> bool:
    """Return whether two commits' dvc.lock name the same bytes; the working tree is always looked at."""
    if None in (before.commit, after.commit):
        return False
    old, new = history.outs(before).get(path), history.outs(after).get(path)
    return old is not None and old == new


def _tested(
    before: Revision, after: Revision, pairs: list[tuple[str, str]], missing: list[str]
) -> tuple[list[Difference], list[str]]:
    """Return the paired differences, later minus earlier, on dev and on test, each corrected by itself.

    ``pairs`` name a model of ``after`` and one of ``before``.
    """
    found: list[Difference] = []
    notes: list[str] = []
    wanted = [(after, one) for one, _ in pairs] + [(before, other) for _, other in pairs]
    models: dict[str, list[Prediction]] = {}
    untrained = {f"{name} at {rev.name}" for rev, name in wanted if not _is_trained(rev, name)}
    for rev, name in dict.fromkeys(wanted):
        path = f"{PREDICTIONS}/{name}.jsonl"
        read = _at_hand(partial(history.rows, rev, path, Prediction), missing)
        if read is not None:
            models[f"{name} at {rev.name}"] = read
    labels = [(f"{one} at {after.name}", f"{other} at {before.name}") for one, other in pairs]
    labels = [pair for pair in labels if all(label in models for label in pair)]
    for split in SPLITS:
        gold = [_gold(rev, split, missing) for rev in (before, after)]
        if gold[0] is None or gold[1] is None:
            continue
        if digest_of(gold[0]) != digest_of(gold[1]):
            notes.append(
                f"{split}: {len(gold[0])} and {len(gold[1])} questions that are not the same: "
                "scores on them cannot be compared"
            )
        elif labels:
            found += differences(models, labels, gold[0], split=split, untrained=untrained)
    return found, notes


def _is_trained(rev: Revision, name: str) -> bool:
    return name in (history.yaml_of(rev, "params.yaml").get("variants") or {})


def _gold(rev: Revision, split: str, missing: list[str]) -> dict[str, Answer] | None:
    """Return gold answers of the questions on which the students are scored."""
    path = f"{SPLIT}/{split}.jsonl"
    questions = _at_hand(partial(history.objects, rev, path), missing)
    return None if questions is None else {row["pmid"]: row["answer"] for row in questions}


def _scores(before: Revision, after: Revision, name: str) -> Scores:
    sheets = [history.json_of(rev, f"metrics/score/{name}.json") for rev in (before, after)]
    tests = [sheet.get("test", {}) if isinstance(sheet, dict) else {} for sheet in sheets]
    old, new = ({metric: test.get(metric) for metric in METRICS} for test in tests)
    return Scores(name, old, new)


def _questions(before: Revision, after: Revision, missing: list[str]) -> dict[str, Changes]:
    found = {}
    for part in ("train", "dev", "test"):
        path = f"{SPLIT}/{part}.jsonl"
        if _same(before, after, path):
            continue
        both = _both(before, after, partial(_by_pmid, path=path), missing)
        if both and (own := changes(*both)).any():
            found[part] = own
    return found


def _asks(before: Revision, after: Revision, missing: list[str]) -> list[AskChanges]:
    names = [
        Path(path).name
        for rev in (before, after)
        for path in history.outs(rev)
        if Path(path).parent == Path(CHECKED)
    ]
    found = []
    for ask in sorted(set(names)):
        folder = f"{CHECKED}/{ask}"
        if _same(before, after, folder):
            continue
        both = _both(before, after, partial(_kept, folder=folder), missing)
        if both is None or not (own := changes(*both)).any():
            continue
        dropped = _at_hand(partial(_dropped, after, folder), missing) or {}
        reasons = Counter(why for id_ in own.vanished for why in dropped.get(id_, ()))
        found.append(AskChanges(ask, own, dict(sorted(reasons.items()))))
    return found


def _kept(rev: Revision, folder: str) -> dict[str, Content]:
    if not _has(rev, folder):
        return {}
    found = history.objects(rev, f"{folder}/kept.jsonl")
    return {str(pair["id"]): _content(pair) for pair in found}


def _dropped(rev: Revision, folder: str) -> dict[str, list[str]]:
    if not _has(rev, folder):
        return {}
    found = history.objects(rev, f"{folder}/dropped.jsonl")
    return {str(row["pair"]["id"]): [str(why) for why in row["reasons"]] for row in found}


def _has(rev: Revision, folder: str) -> bool:
    return folder in history.outs(rev)  # one that a commit has no more is not among them


def _by_pmid(rev: Revision, path: str) -> dict[str, Content]:
    return {str(row["pmid"]): _content(row) for row in history.objects(rev, path)}


def _content(row: Mapping[str, object]) -> Content:
    """Return what a pair or question says, whatever else is recorded about it."""
    return tuple(repr(row.get(key)) for key in CONTENT)


def _code(before: Revision, after: Revision) -> list[str]:
    """Return the code files that stages read and that differ."""
    old, new = history.deps(before), history.deps(after)
    both = {path for path in old.keys() | new.keys() if path.startswith(("src/", "stages/"))}
    return sorted(path for path in both if old.get(path) != new.get(path))


def _both(
    before: Revision, after: Revision, read: Callable[[Revision], T], missing: list[str]
) -> tuple[T, T] | None:
    found = [_at_hand(partial(read, rev), missing) for rev in (before, after)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _at_hand(read: Callable[[], T], missing: list[str]) -> T | None:
    """Return what is read; None, and its path in ``missing``, when DVC's cache does not hold it."""
    try:
        return read()
    except NotCachedError as exc:
        missing.append(str(exc))
        return None


def require_all(found: CommitsCompared) -> None:
    """Raise DataError naming what was not in the cache and the command that brings it."""
    if found.missing:
        paths = " ".join(found.missing)
        raise DataError(
            f"{len(found.missing)} file(s) of these commits are not in DVC's cache and were left out: "
            f"run `dvc fetch --all-commits {paths}`"
        )
