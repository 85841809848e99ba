"""What a token costs: the dated price list, a request's bill and the most that it can become.

Money is integer everywhere: micro-dollars (1e-6 $), and prices in micro-dollars per million tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import ROUND_CEILING, Decimal
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args

from pydantic import Field

from medslm.errors import ParamsError
from medslm.params import Section

Mode = Literal["sync", "flex", "batch"]
MODES: tuple[Mode, ...] = get_args(Mode)

MILLION = 1_000_000
OPENAI_HOST = "https://api.openai.com/"

# Beyond any model's context window (the largest is about a million): a broken counter, not a bill.
_PLAUSIBLE_TOKENS = 10_000_000

# Tokens that a server adds unseen. OpenAI's chat format has 3 or 4 around a message and 3 before
# the reply; a reply's schema is written into the prompt too, and ours have fewer bytes than this.
_PER_MESSAGE = 16
_PER_REQUEST = 1024

_SAY = (
    "write price: {input: DOLLARS, cached: DOLLARS, output: DOLLARS} (per million tokens), "
    "or price: free"
)

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class Figures(Section):
    """A price that the user knows, in dollars per million tokens."""

    input: Annotated[Decimal, Field(ge=0)]
    cached: Annotated[Decimal, Field(ge=0)]
    output: Annotated[Decimal, Field(ge=0)]


# The knob `price` of an endpoint.
PriceKnob = Literal["listed", "free"] | Figures


class Price(NamedTuple):
    """Micro-dollars per million tokens. ``written`` is for prompt tokens put into the cache.

    None for ``written`` means that they cost what other prompt tokens do.
    """

    input: int
    cached: int
    output: int
    written: int | None = None


class Listing(NamedTuple):
    """A model's row in the price list; a mode that is not offered is None."""

    model: str
    checked: str
    modes: Mapping[Mode, Price | None]


class Priced(Protocol):
    """The part of a teacher's section that its price hangs on."""

    @property
    def price(self) -> PriceKnob: ...
    @property
    def model(self) -> str: ...
    @property
    def mode(self) -> Mode: ...


def price_for(section: Priced, name: str, base_url: str) -> Price | None:
    """Return what the tokens of teacher ``name`` cost in its mode, None if nothing.

    Raises ParamsError for a listed price that is not in the list: no price is ever guessed.
    """
    try:
        return price_in(section.mode, section.price, section.model, base_url)
    except ParamsError as exc:
        raise ParamsError(f"teachers.{name}.{exc}") from None


def price_in(mode: Mode, knob: PriceKnob, model: str, base_url: str) -> Price | None:
    """Return what a model's tokens cost in one mode; figures of the user's own hold in any mode."""
    if isinstance(knob, Figures):
        return Price(*(_micros(figure) for figure in (knob.input, knob.cached, knob.output)))
    if knob == "free":
        return None
    if not is_openai(base_url):
        raise ParamsError(
            f"price: listed: these are OpenAI's own prices, and {base_url} is another server; {_SAY}"
        )
    found = listing(model)
    if found is None:
        raise ParamsError(f"price: listed: {model} is not in the price list of {as_of()}; {_SAY}")
    price = found.modes[mode]
    if price is None:
        offered = " or ".join(name for name, known in found.modes.items() if known is not None)
        raise ParamsError(f"mode: {mode}: not offered for {model}; choose {offered}")
    return price


def charge(price: Price | None, usage: Mapping[str, object] | None, at_most: int) -> int:
    """Return what an answered request cost by the server's own count, rounded up.

    A count that is missing or cannot be (a prompt without tokens, more tokens cached than sent)
    is charged as ``at_most``, the reservation. One above it is charged as it stands: so is the bill.
    """
    if price is None:
        return 0
    counts = _counts(usage or {})
    if counts is None:
        return at_most
    sent, cached, written, output = counts
    written_price = price.input if price.written is None else price.written
    return _up(
        (sent - cached - written) * price.input
        + cached * price.cached
        + written * written_price
        + output * price.output
    )


def most(texts: Sequence[str], max_tokens: int, price: Price | None) -> int:
    """Return the most that a request with these messages can cost, whatever the tokenizer.

    A token is at least one byte of text; what a server adds to the messages is allowed for.
    """
    if price is None:
        return 0
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    sent = size + _PER_MESSAGE * len(texts) + _PER_REQUEST
    dearest = max(price.input, price.cached, price.written or 0)
    return _up(sent * dearest + max_tokens * price.output)


def listing(model: str) -> Listing | None:
    """Return the row of a model or, for a dated snapshot, of its family; None if there is none."""
    rows: dict[str, Any] = _list()["models"]
    for name in (model, family(model)):
        if name in rows:
            row = rows[name]
            modes = {mode: _price(row[mode]) for mode in MODES}
            return Listing(name, row["checked"], modes)
    return None


def family(model: str) -> str:
    """Return a model's name without the date of a snapshot."""
    return _SNAPSHOT.sub("", model)


def shutdown_of(model: str) -> date | None:
    """Return the day on which OpenAI ends a model, None if none was announced when we looked."""
    day: str | None = _list()["shutdown"].get(family(model))
    return None if day is None else date.fromisoformat(day)


def as_of() -> str:
    """Return the day of the price list."""
    return str(_list()["as_of"])


def is_openai(base_url: str) -> bool:
    """True for OpenAI's own address, the only one that the list is for."""
    return f"{base_url}/".startswith(OPENAI_HOST)


@cache
def _list() -> dict[str, Any]:
    text = (resources.files("medslm.teacher") / "prices.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _price(row: Mapping[str, str | None] | None) -> Price | None:
    """Return a row of the list; where it has no price for cached tokens there is no discount."""
    if row is None:
        return None
    figures = {name: None if text is None else _micros(Decimal(text)) for name, text in row.items()}
    cached = figures["input"] if figures["cached"] is None else figures["cached"]
    return Price(figures["input"] or 0, cached or 0, figures["output"] or 0, figures["written"])


def _counts(usage: Mapping[str, object]) -> tuple[int, int, int, int] | None:
    """Return prompt, cached, written and completion tokens; None if they cannot be true."""
    counts = [
        usage.get("prompt_tokens"),
        usage.get("cached_tokens", 0),
        usage.get("cache_write_tokens", 0),
        usage.get("completion_tokens"),
    ]
    known = [n for n in counts if type(n) is int and 0 <= n <= _PLAUSIBLE_TOKENS]
    if len(known) < len(counts):
        return None
    sent, cached, written, output = known
    if sent == 0 or cached + written > sent:
        return None
    return sent, cached, written, output


def _micros(dollars: Decimal) -> int:
    return int((dollars * MILLION).to_integral_value(ROUND_CEILING))


def _up(millionths: int) -> int:
    """Divide by a million, rounding up: charging too little breaks the cap, too much never does."""
    return -(-millionths // MILLION)
