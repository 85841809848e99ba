"""The teacher behind an OpenAI-compatible endpoint: now, at a lower rate, or as a batch."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from medslm.errors import CredentialsError, ParamsError, TeacherDown
from medslm.files import sha256_of_json
from medslm.params import Section
from medslm.teacher.batch import Batch
from medslm.teacher.batch_jobs import has_open, held_micros
from medslm.teacher.batch_wire import BatchWire
from medslm.teacher.budget import Budget
from medslm.teacher.coordinator import Coordinator, Costs
from medslm.teacher.limits import Pacer
from medslm.teacher.prices import Mode, Price, PriceKnob, charge, family, most, price_for, price_in
from medslm.teacher.replies import Journal, Reply
from medslm.teacher.requests import Request
from medslm.teacher.schemas import response_format
from medslm.teacher.stops import Rules
from medslm.teacher.wire import OPENAI_URL, NoAnswer, Wire, read_key

_MICROS = 1_000_000


class OpenAIParams(Section):
    """An OpenAI-compatible endpoint."""

    backend: Literal["openai"]
    base_url: Annotated[str, Field(pattern=r"^https?://")] | None
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None
    model: Annotated[str, Field(min_length=1)]
    accept_models: list[str]
    temperature: Annotated[float, Field(ge=0, le=2)] | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    max_tokens: Annotated[int, Field(ge=1)]
    structured: bool
    mode: Mode
    batch_wait_s: Annotated[float, Field(ge=0)]
    price: PriceKnob
    max_usd: Annotated[float, Field(gt=0)] | None
    concurrency: Annotated[int, Field(ge=1, le=1024)]
    rpm: Annotated[int, Field(ge=1)] | None
    tpm: Annotated[int, Field(ge=1)] | None
    timeout_s: Annotated[float, Field(gt=0)]
    attempts: Annotated[int, Field(ge=1, le=100)]
    backoff_s: Annotated[float, Field(ge=0)]
    max_wait_s: Annotated[float, Field(gt=0)]
    max_failed_share: Annotated[float, Field(ge=0, le=1)]


class Endpoint:
    """Answers over HTTP; the key is looked up and the price known before anything is sent."""

    def __init__(
        self, params: OpenAIParams, name: str, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._params = params
        self._name = name
        self._environ = environ
        self._base_url = checked_url(params.base_url, name)

    def identity(self, strategy: str) -> dict[str, object]:
        """Return the endpoint's address and the schema that replies have to follow."""
        schema = sha256_of_json(response_format(strategy)) if self._params.structured else None
        return {"backend": "openai", "base_url": self._base_url, "schema": schema}

    def answer(self, requests: Sequence[Request], journal: Journal) -> Iterator[Sequence[Reply]]:
        """Yield replies as they arrive.

        After an error that stops all (CredentialsError, MoneyError, TeacherDown, ParamsError,
        TooManyFailures, Interrupted) nothing new is sent, what is in flight is awaited and yielded,
        then the error is raised. A batch that an earlier run left is collected first.
        """
        price = price_for(self._params, self._name, self._base_url)
        cap = checked_cap(self._params, price, self._name)
        key = read_key(self._environ, self._params.key_env, self._name)
        wire = self._wire(key)
        budget = Budget(cap, journal.spent_micros() - held_micros(journal))
        try:
            self._preflight(wire)
            if self._params.mode == "batch":
                with self._batch(wire, key, budget) as batch:
                    yield from batch.answer(requests, journal)
                return
            answered: set[str] = set()
            if has_open(journal):
                with self._batch(wire, key, budget) as batch:
                    for replies in batch.collect_open(requests, journal):
                        answered.update(reply.key for reply in replies)
                        yield replies
            left = [request for request in requests if request.key not in answered]
            yield from self._coordinator(wire, price, budget, journal).run(left)
        finally:
            wire.close()

    def _wire(self, key: str | None) -> Wire:
        params = self._params
        return Wire(
            base_url=self._base_url,
            key=key,
            timeout_s=params.timeout_s,
            connections=params.concurrency,
            response_format=response_format,
            service_tier="flex" if params.mode == "flex" else None,
        )

    def _coordinator(
        self, wire: Wire, price: Price | None, budget: Budget, journal: Journal
    ) -> Coordinator:
        params = self._params
        pacer = Pacer(
            concurrency=params.concurrency, rpm=params.rpm, tpm=params.tpm, clock=time.monotonic
        )
        return Coordinator(
            wire,
            self._rules(),
            pacer=pacer,
            budget=budget,
            costs=costs(price),
            journal=journal,
            rng=random.Random(),  # jitter only: it must differ between processes
        )

    @contextlib.contextmanager
    def _batch(self, wire: Wire, key: str | None, budget: Budget) -> Iterator[Batch]:
        params, rules = self._params, self._rules()
        price = price_in("batch", params.price, params.model, self._base_url)
        batch_wire = BatchWire(rules, base_url=self._base_url, key=key, rng=random.Random())
        try:
            yield Batch(
                batch_wire,
                rules,
                arguments=wire.arguments,
                costs=costs(price),
                budget=budget,
                wait_s=params.batch_wait_s,
            )
        finally:
            batch_wire.close()

    def _preflight(self, wire: Wire) -> None:
        """Find out before anything is paid that somebody is there and takes the key."""
        try:
            status = wire.preflight()
        except NoAnswer as exc:
            raise TeacherDown(
                f"teacher {self._name} at {self._base_url}: nobody answers ({exc}); nothing was "
                "sent: start the server or correct base_url, then run again"
            ) from None
        if status == 401:
            raise CredentialsError(
                f"teacher {self._name} at {self._base_url}: the key is refused (HTTP 401); nothing "
                f"was sent: check the environment variable {self._params.key_env}"
            )

    def _rules(self) -> Rules:
        params = self._params

        def accepts(asked: str, served: str) -> bool:
            # A name without a date is served as its latest snapshot: NAME-2026-01-31.
            return asked in (served, family(served)) or served in params.accept_models

        return Rules(
            name=self._name,
            where=self._base_url,
            structured=params.structured,
            concurrency=params.concurrency,
            attempts=params.attempts,
            backoff_s=params.backoff_s,
            max_wait_s=params.max_wait_s,
            timeout_s=params.timeout_s,
            accepts=accepts,
        )


def costs(price: Price | None) -> Costs:
    """Return what attempts cost at a price; nothing where the endpoint is free."""

    def most_of(request: Request, max_tokens: int | None) -> int:
        return most([m.content for m in request.messages], max_tokens or 0, price)

    return Costs(most_of, lambda usage, at_most: charge(price, usage, at_most))


def checked_cap(params: OpenAIParams, price: Price | None, name: str) -> int | None:
    """Return the cap in micro-dollars; ParamsError if something costs money and has none."""
    if params.max_usd is None:
        if price is not None:
            raise ParamsError(
                f"teachers.{name}.max_usd: null is for free endpoints; this one costs money, so say "
                "how many dollars this project may spend there in all"
            )
        return None
    return int(params.max_usd * _MICROS)


def checked_url(base_url: str | None, name: str) -> str:
    """Return the address without a trailing slash; ParamsError if it may hold a secret."""
    if base_url is None:
        return OPENAI_URL
    parts = urlsplit(base_url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ParamsError(
            f"teachers.{name}.base_url: must hold no user, password, query or fragment; "
            "keys come from the environment variable that key_env names"
        )
    return base_url.rstrip("/")
