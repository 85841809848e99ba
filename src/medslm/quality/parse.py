"""Read a teacher's replies: each gives one pair, or one named reason why it gave none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from medslm.data.records import ANSWERS, Answer, Exchange, Pair, Question, Unreadable
from medslm.errors import DataError, LeakageError
from medslm.quality.edits import apply_edits, read_edits
from medslm.quality.fields import CannotReadError, Unread, find_fields
from medslm.quality.text import clean, is_safe

# A reply holds a question and a sentence or two; ten times a generous max_tokens is below this.
MAX_REPLY_CHARS = 20_000

INHERITS_ANSWER = "rewrite"  # the strategy whose pairs keep the gold answer of their source
EDITS_CONTEXT = "counterfactual"  # whose pairs have an abstract of their own
LABELS_SOURCE = "pseudo-label"  # whose pairs are the source's question with the teacher's answer
STRATEGIES = frozenset({INHERITS_ANSWER, "new", EDITS_CONTEXT, LABELS_SOURCE})

_NOT_FINISHED = {"length"}
_REFUSED = {"content_filter", "refusal"}
_AROUND_A_WORD = " .,;:!()[]'\"`*\u2018\u2019\u201c\u201d"


class _Said(NamedTuple):
    """What a reply comes to, beside where it came from."""

    question: str
    context: str | None
    answer: Answer
    long_answer: str


class Parsed(NamedTuple):
    """Every reply once: as a pair or as unreadable."""

    pairs: list[Pair]
    unreadable: list[Unreadable]


def parse_all(exchanges: Sequence[Exchange], sources: Sequence[Question], ask: str) -> Parsed:
    """Read every reply in order, and lose none.

    ``sources`` are the questions the teacher may see: a reply about any other raises LeakageError.
    Two replies with the same PMID and index raise DataError, since a pair's id would not be unique;
    so does a strategy that makes no pairs.
    """
    known = {source.pmid: source for source in sources}
    strangers = sorted({exchange.pmid for exchange in exchanges} - set(known))
    if strangers:
        raise LeakageError(
            f"ask {ask}: {len(strangers)} source(s) of replies are not in the train part, "
            f"for example {', '.join(strangers[:5])}; ask again with the present split"
        )
    _require_unique(exchanges, ask)
    if other := sorted({exchange.strategy for exchange in exchanges} - STRATEGIES):
        raise DataError(f"ask {ask}: replies to strategy {other[0]!r} make no pairs")
    parsed = Parsed([], [])
    for exchange in exchanges:
        match parse(exchange, known[exchange.pmid], ask):
            case Pair() as pair:
                parsed.pairs.append(pair)
            case unreadable:
                parsed.unreadable.append(unreadable)
    return parsed


def parse(exchange: Exchange, source: Question, ask: str) -> Pair | Unreadable:
    """Read one reply: a JSON object, one fenced block, or ``key: value`` lines.

    Keys count in any case and others than the strategy's are ignored (see ``fields``). Nothing is
    guessed: an answer is one of yes, no, maybe as a single word, whatever its case and the
    punctuation around it. A rewrite keeps the gold answer of its source. A counterfactual and a
    pseudo-label keep its question; the former has its abstract with the reply's edits made. A
    rewrite and a pseudo-label without a long answer have the source's; any other has "".
    """
    try:
        said = _read(exchange, source)
    except CannotReadError as exc:
        return _unreadable(exchange, exc.reason)
    return Pair(
        id=f"{ask}:{exchange.pmid}:{exchange.index}",
        pmid=exchange.pmid,
        strategy=exchange.strategy,
        teacher=exchange.teacher,
        prompt=exchange.prompt,
        reply_key=exchange.key,
        question=said.question,
        context=said.context,
        answer=said.answer,
        long_answer=said.long_answer,
    )


def _read(exchange: Exchange, source: Question) -> _Said:
    fields = find_fields(
        _content(exchange),
        strategy=exchange.strategy,
        completes=_is_completion(exchange.prompt),
    )
    if exchange.strategy == EDITS_CONTEXT:
        answer, long_answer = _answer(fields), _text(fields, "long_answer")
        context = apply_edits(read_edits(fields), source.sections)
        return _Said(clean(source.question), context, answer, long_answer)
    if exchange.strategy == LABELS_SOURCE:
        answer, long_answer = _answer(fields), _text(fields, "long_answer")
        return _Said(clean(source.question), None, answer, long_answer or clean(source.long_answer))
    question = _text(fields, "question")
    if not question:
        raise CannotReadError(Unread.NO_QUESTION)
    long_answer = _text(fields, "long_answer")
    if exchange.strategy == INHERITS_ANSWER:
        return _Said(question, None, _inherited(source), long_answer or clean(source.long_answer))
    return _Said(question, None, _answer(fields), long_answer)


def _require_unique(exchanges: Sequence[Exchange], ask: str) -> None:
    times = Counter((exchange.pmid, exchange.index) for exchange in exchanges)
    repeated = sorted(f"{pmid}:{index}" for (pmid, index), count in times.items() if count > 1)
    if repeated:
        raise DataError(
            f"ask {ask}: {len(repeated)} reply id(s) occur more than once, "
            f"for example {', '.join(repeated[:5])}; each request has one reply"
        )


def _is_completion(prompt: str) -> bool:
    """Tell whether the prompt ended in a key, so that the reply may start with its value."""
    return prompt.rpartition("/")[2].startswith("completion")


def _content(exchange: Exchange) -> str:
    if exchange.finish_reason in _NOT_FINISHED:
        raise CannotReadError(Unread.TRUNCATED)
    if exchange.content is None or exchange.finish_reason in _REFUSED:
        raise CannotReadError(f"{Unread.FAILED}:{exchange.finish_reason}")
    if len(exchange.content) > MAX_REPLY_CHARS:
        raise CannotReadError(Unread.TOO_LONG)
    if not is_safe(exchange.content):
        raise CannotReadError(Unread.BAD_UNICODE)
    content = exchange.content.strip()
    if not content:
        raise CannotReadError(Unread.EMPTY)
    return content


def _text(fields: dict[str, object], field: str) -> str:
    """Return a field's clean text; "" when it is missing or null."""
    value = fields.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CannotReadError(Unread.WRONG_TYPE)
    if not is_safe(value):  # JSON escapes may hide what the raw reply did not show
        raise CannotReadError(Unread.BAD_UNICODE)
    return clean(value)


def _answer(fields: dict[str, object]) -> Answer:
    text = _text(fields, "answer")
    if not text:
        raise CannotReadError(Unread.NO_ANSWER)
    word = text.strip(_AROUND_A_WORD).casefold()
    for answer in ANSWERS:
        if word == answer:
            return answer
    raise CannotReadError(Unread.UNKNOWN_ANSWER)


def _inherited(source: Question) -> Answer:
    if source.answer is None:
        raise CannotReadError(Unread.NO_ANSWER)
    return source.answer


def _unreadable(exchange: Exchange, reason: str) -> Unreadable:
    content = exchange.content
    if content is not None:  # a lone surrogate could be written but never read back
        content = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Unreadable(
        key=exchange.key,
        pmid=exchange.pmid,
        strategy=exchange.strategy,
        index=exchange.index,
        reason=reason,
        content=content,
    )
