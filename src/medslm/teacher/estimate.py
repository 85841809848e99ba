"""What asking would cost: tokens, dollars and minutes, estimated before anything is sent."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medslm.teacher.prices import MILLION, Mode, Price
from medslm.teacher.requests import Request

# Characters to a thousand tokens. The chat prompts for PubMedQA's 450 training abstracts have 4,540
# to 4,590 by o200k_base (GPT-4o and later; 95 % interval +-30), 4,520 to 4,550 by cl100k_base and
# 4,300 to 4,330 by SmolLM2's smaller vocabulary. Low and high leave room for a tokenizer and a chat
# format that nobody here has measured.
_CHARS_LOW, _CHARS, _CHARS_HIGH = 4_800, 4_550, 4_100

# OpenAI's chat format: about four tokens around a message, three before the reply.
_AROUND_MESSAGE = 4
_BEFORE_REPLY = 3

# Tokens of one reply's JSON. Measured with o200k_base on a frontier model's replies to PubMedQA:
# rewrite 60.7 +- 0.8 (n = 500), new 65.4 +- 0.6 (n = 1,000). The rest is counted from the fields
# that a reply has: not measured.
_REPLY_TOKENS: Mapping[str, int] = {
    "rewrite": 61,
    "new": 65,
    "counterfactual": 160,
    "pseudo-label": 45,
    "answer": 10,
}
_TERSE = 0.75  # a teacher may say the same in three quarters of the words

# So many replies to the same prompt say more about the next ones than the figures above.
_ENOUGH = 20
_AT_LEAST_OFF = 0.05

# OpenAI caches what prompts begin with from so many tokens on (its guide on prompt caching).
_CACHED_FROM = 1024
_LOOKED_AT = 3

# A reply's time over OpenAI's API; more for a model that thinks, less for a server next door.
LATENCY_S = 5.0


class Range(NamedTuple):
    """What is expected, and between which bounds it should stay."""

    low: int
    expected: int
    high: int


NOTHING = Range(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """What one ask would need. ``costs`` are micro-dollars, None where a mode has no known price.

    ``held`` is how many replies are in the journal; ``learned``, whether the length of a reply is
    from there. ``minutes`` is for sending one by one. A teacher in this process has no tokens.
    """

    name: str
    teacher: str
    model: str
    requests: int
    held: int | None
    prompt: Range | None
    output: Range | None
    learned: bool
    free: bool
    costs: Mapping[Mode, Range | None]
    minutes: float | None

    @property
    def to_ask(self) -> int:
        """How many requests are not answered yet."""
        return self.requests - (self.held or 0)


def prompt_tokens(requests: Iterable[Request], schema: object | None) -> Range:
    """Return about how many tokens the prompts have, with the schema that replies are held to."""
    per_request = 0 if schema is None else len(json.dumps(schema))
    chars = around = 0
    for request in requests:
        messages = request.messages
        chars += per_request + sum(len(message.content) for message in messages)
        around += _BEFORE_REPLY + _AROUND_MESSAGE * len(messages)
    low, expected, high = (
        around + -(-chars * 1000 // each) for each in (_CHARS_LOW, _CHARS, _CHARS_HIGH)
    )
    return Range(low, expected, high)


def output_tokens(
    strategy: str, count: int, *, max_tokens: int, seen: Sequence[int]
) -> tuple[Range, bool]:
    """Return about how many tokens ``count`` replies have, and whether ``seen`` replies said so.

    With too few of them, high is ``max_tokens`` for each: a model that thinks may use them all.
    """
    if len(seen) >= _ENOUGH:
        mean = statistics.fmean(seen)
        off = max(2 * statistics.stdev(seen) / math.sqrt(len(seen)), _AT_LEAST_OFF * mean)
        each = (mean - off, mean, mean + off)
    else:
        usual = _REPLY_TOKENS[strategy]
        each = (_TERSE * usual, usual, max_tokens)
    low, expected, high = (math.ceil(count * max(0, min(tokens, max_tokens))) for tokens in each)
    return Range(low, expected, high), len(seen) >= _ENOUGH


def shared_tokens(requests: Sequence[Request]) -> int:
    """Return about how many tokens all prompts begin with, 0 if they are too few to be cached.

    Worked examples stand before every question alike; an instruction alone is shorter than that.
    """
    if len(requests) < 2:
        return 0
    texts = ["".join(m.content for m in request.messages) for request in requests[:_LOOKED_AT]]
    least, greatest = min(texts), max(texts)  # what these two share, all between them share
    pairs = zip(least, greatest, strict=False)
    alike = next((at for at, (a, b) in enumerate(pairs) if a != b), len(least))
    tokens = alike * 1000 // _CHARS
    return tokens if tokens >= _CACHED_FROM else 0


def cost(prompt: Range, output: Range, price: Price | None, *, cached: int) -> Range:
    """Return micro-dollars; only ``low`` counts on ``cached`` prompt tokens to be in the cache."""
    if price is None:
        return NOTHING
    held = min(cached, prompt.low)
    sent = (
        held * price.cached + (prompt.low - held) * price.input,
        prompt.expected * price.input,
        prompt.high * max(price.input, price.written or 0),
    )
    low, expected, high = (
        -(-(paid + tokens * price.output) // MILLION)
        for paid, tokens in zip(sent, output, strict=True)
    )
    return Range(low, expected, high)


def minutes(
    count: int, tokens: int, *, concurrency: int, rpm: int | None, tpm: int | None
) -> float:
    """Return how long ``count`` requests with ``tokens`` in all take at the narrowest limit."""
    at_once = count * LATENCY_S / 60 / concurrency
    by_requests = 0.0 if rpm is None else count / rpm
    by_tokens = 0.0 if tpm is None else tokens / tpm
    return max(at_once, by_requests, by_tokens)


def total(ranges: Iterable[Range | None]) -> Range | None:
    """Add up; None if one of them is not known."""
    known = list(ranges)
    if any(one is None for one in known):
        return None
    low, expected, high = (sum(parts) for parts in zip(NOTHING, *filter(None, known), strict=True))
    return Range(low, expected, high)


def verdict(count: int, expected: Range, *, cap: int | None, spent: int, largest: int) -> str:
    """Say whether ``count`` requests fit under the cap, in micro-dollars like everything here.

    ``largest`` is the most that one of them reserves: the last one has to find room for it.
    """
    if cap is None:
        return "max_usd is null: nothing paid is sent before it says how much may be spent"
    left = max(0, cap - spent)
    under = f"max_usd {dollars(cap)} ({dollars(spent)} spent before)"
    if count == 0:
        return f"nothing to ask; {under}"
    if expected.high + largest <= left:
        return f"fits under {under}"
    if expected.expected + largest <= left:
        return (
            f"should fit under {under}; at worst it would stop after about "
            f"{_share(count, left - largest, expected.high):,} of {count:,} requests"
        )
    return (
        f"would stop at {under} after about "
        f"{_share(count, left - largest, expected.expected):,} of {count:,} requests; "
        "what is answered by then is kept"
    )


def dollars(micros: int) -> str:
    """Write micro-dollars as dollars: cents, or four decimals below one dollar."""
    places = 4 if 0 < micros < MILLION else 2
    return f"${micros / MILLION:,.{places}f}"


def _share(count: int, left: int, needed: int) -> int:
    return count * max(0, left) // needed
