"""The review page: every checked pair beside its source, in one HTML file that loads and sends nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from medslm.data.records import Ballot, Dropped, Pair, Question
from medslm.errors import DataError
from medslm.files import dump_json, read_jsonl
from medslm.quality.decisions import LIFTED, MAX_NOTE, Decision, content_of
from medslm.quality.rules import Drop


class Seen(NamedTuple):
    """A pair as `check` left it: with the reasons it was dropped for, none if it was kept."""

    ask: str
    pair: Pair
    reasons: tuple[str, ...]
    ballot: Ballot | None


def read_seen(checked: Path, pool: Path, votes: Path, asks: Sequence[str]) -> list[Seen]:
    """Read kept and dropped pairs of the asks, in the order of their ids; DataError if one is not there.

    What `pool` dropped is shown with its reasons, once that stage has run.
    """
    seen: list[Seen] = []
    gone = pool / "dropped.jsonl"
    later = {row.pair.id: row.reasons for row in read_jsonl(gone, Dropped)} if gone.exists() else {}
    for ask in asks:
        folder = checked / ask
        if not folder.is_dir():
            raise DataError(f"{folder}: not there; run `medslm run check@{ask}` first")
        ballots = {ballot.pair_id: ballot for ballot in read_jsonl(votes / f"{ask}.jsonl", Ballot)}
        kept = read_jsonl(folder / "kept.jsonl", Pair)
        found = [(pair, later.get(pair.id, ())) for pair in kept]
        dropped = read_jsonl(folder / "dropped.jsonl", Dropped)
        rows = [*found, *((row.pair, row.reasons) for row in dropped)]
        seen += [Seen(ask, pair, reasons, ballots.get(pair.id)) for pair, reasons in rows]
    return sorted(seen, key=lambda one: one.pair.id)


def page(seen: Sequence[Seen], sources: Sequence[Question], decisions: Sequence[Decision]) -> str:
    """Return the page. Its script is the only one that can run: the policy names it by its hash.

    Every text of the data is inside one block of JSON without a ``<``, which the script puts into
    the page as text.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, script = _own("review.css"), _own("review.js")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(_own("review.html")).render(
        policy=policy,
        total=len(seen),
        style=Markup(style),
        script=Markup(script),
        data=Markup(_inert(page_data(seen, sources, decisions))),
    )


def page_data(
    seen: Sequence[Seen], sources: Sequence[Question], decisions: Sequence[Decision]
) -> dict[str, Any]:
    """Return what the page shows: the pairs, and each source once."""
    asked = {one.pair.pmid for one in seen}
    by_id = {decision.pair_id: decision for decision in decisions}
    return {
        "kept": sum(not one.reasons for one in seen),
        "max_note": MAX_NOTE,
        "own": Drop.DROPPED_BY_REVIEWER,
        "soft": sorted(LIFTED),
        "sources": {q.pmid: _source(q) for q in sources if q.pmid in asked},
        "pairs": [_row(one, by_id.get(one.pair.id)) for one in seen],
    }


def _row(one: Seen, decision: Decision | None) -> dict[str, Any]:
    pair, ballot = one.pair, one.ballot
    content = content_of(pair)
    valid = decision is not None and decision.content == content
    return {
        "id": pair.id,
        "content": content,
        "ask": one.ask,
        "pmid": pair.pmid,
        "teacher": pair.teacher,
        "strategy": pair.strategy,
        "prompt": pair.prompt,
        "question": pair.question,
        "context": pair.context,
        "answer": pair.answer,
        "long_answer": pair.long_answer,
        "kept": not one.reasons,
        "reasons": list(one.reasons),
        "votes": ballot.probabilities if ballot else None,
        "voted": ballot.answer if ballot else None,
        "verdict": decision.verdict if decision and valid else None,
        "note": decision.note if decision and valid else "",
        "outdated": decision.verdict if decision and not valid else None,
    }


def _source(question: Question) -> dict[str, str | None]:
    return {
        "question": question.question,
        "context": question.context,
        "answer": question.answer,
        "long_answer": question.long_answer,
    }


def _inert(value: Mapping[str, Any]) -> str:
    """Return JSON that no parser of HTML takes for markup, whatever the texts hold."""
    text = dump_json(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _own(name: str) -> str:
    return resources.files("medslm.quality").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return the hash by which a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
