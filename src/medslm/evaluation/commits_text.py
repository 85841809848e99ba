"""The comparison of two commits as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medslm.evaluation.changes import Changes, Setting
from medslm.evaluation.commits import METRICS, AskChanges, CommitsCompared, Scores, Side
from medslm.evaluation.differences import sentence

SHOWN = 5  # ids and files named per line, unless all are asked for
_ABSENT = "-"


def commits_text(found: CommitsCompared, *, whole: bool = False) -> str:
    """Return what two commits differ in; ``whole`` names every pair, question and file."""
    parts = [
        _head(found),
        _models(found, whole=whole),
        _settings(found.settings),
        _data(found, whole=whole),
        _block("Code read by the stages", [_named(found.code, whole=whole)] if found.code else []),
        _block(
            "Not compared",
            [*found.notes, *(f"{path}: not in DVC's cache" for path in found.missing)],
        ),
    ]
    return _plain("\n\n".join(part for part in parts if part))


def _plain(text: str) -> str:
    """Return text that a terminal only shows: no escape sequence of a commit or a setting reaches it."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _head(found: CommitsCompared) -> str:
    return "\n".join(
        _side(word, side) for word, side in (("from", found.before), ("to", found.after))
    )


def _side(word: str, side: Side) -> str:
    chosen = f"; chosen: {side.chosen}" if side.chosen else ""
    return f"{word:5}{side.revision.name}  {side.subject}".rstrip() + chosen


def _models(found: CommitsCompared, *, whole: bool) -> str:
    lines = []
    if found.unchanged:
        lines.append(f"Same predictions: {_named(found.unchanged, whole=whole)}")
    lines += _scores(found.scores)
    for split in ("test", "dev"):
        told = [sentence(d) for d in found.differences if d.split == split]
        if told:
            count = "" if len(told) == 1 else f", corrected for {len(told)} tests (Holm)"
            lines += ["", f"Accuracy on {split}, paired{count}:", *told]
    return "\n".join(lines).strip("\n")


def _scores(scores: Sequence[Scores]) -> list[str]:
    if not scores:
        return []
    titles = [f"test {metric.replace('_', '-')}" for metric in METRICS]
    grid = [["", *titles]]
    grid += [[s.name, *(_arrow(s.before, s.after, metric) for metric in METRICS)] for s in scores]
    widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in grid
    ]


def _arrow(
    before: Mapping[str, float | None], after: Mapping[str, float | None], metric: str
) -> str:
    return " -> ".join(
        _ABSENT if value is None else f"{value:.3f}" for value in (before[metric], after[metric])
    )


def _settings(found: Sequence[Setting]) -> str:
    lines = [f"{s.key}: {_value(s.before)} -> {_value(s.after)}" for s in found]
    return _block("Settings", lines)


def _value(text: str | None) -> str:
    return _ABSENT if text is None else text


def _data(found: CommitsCompared, *, whole: bool) -> str:
    lines = []
    for part, own in found.questions.items():
        lines += [f"{part} questions: {_counts(own)}", *_ids(own, whole=whole)]
    for ask in found.asks:
        lines += [f"kept pairs of {ask.ask}: {_counts(ask.kept)}{_why(ask)}"]
        lines += _ids(ask.kept, whole=whole)
    return _block("Data", lines)


def _counts(own: Changes) -> str:
    return ", ".join(f"{len(ids)} {kind}" for kind, ids in own._asdict().items())


def _why(ask: AskChanges) -> str:
    told = ", ".join(f"{reason} {count}" for reason, count in ask.reasons.items())
    return f" (now dropped: {told})" if told else ""


def _ids(own: Changes, *, whole: bool) -> list[str]:
    return [f"  {kind}: {_named(ids, whole=whole)}" for kind, ids in own._asdict().items() if ids]


def _named(names: Sequence[str], *, whole: bool) -> str:
    if whole or len(names) <= SHOWN:
        return ", ".join(names)
    return ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more"


def _block(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)]) if lines else ""
