"""The knobs of the retry law, and every reason to stop all of a job, in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from medslm.errors import (
    CredentialsError,
    Interrupted,
    MedslmError,
    MoneyError,
    ParamsError,
    TeacherDown,
    TooManyFailures,
)
from medslm.teacher.budget import Budget
from medslm.teacher.requests import Request
from medslm.teacher.retry import Meaning

_SAFE = "all replies so far are stored"


class Rules(NamedTuple):
    """The retry law's knobs; ``accepts(asked, served)`` says whether that model will do."""

    name: str
    where: str
    structured: bool
    concurrency: int
    attempts: int
    backoff_s: float
    max_wait_s: float
    timeout_s: float
    accepts: Callable[[str, str], bool]


def interrupted(rules: Rules, signum: int) -> Interrupted:
    """A person or the system wants this process to end."""
    return Interrupted(
        f"teacher {rules.name}: stopped by a signal; {_SAFE}: run again to go on", signum
    )


def stops_all(rules: Rules, meaning: Meaning, said: str) -> MedslmError:
    """An answer that every other request would get as well."""
    at = f"teacher {rules.name} at {rules.where}"
    if meaning is Meaning.MONEY:
        return MoneyError(
            f"{at}: quota or credit is used up ({said}); {_SAFE}: add credit, then run again"
        )
    if meaning is Meaning.REDIRECT:
        return ParamsError(f"{at}: it redirects ({said}); give the final address as base_url")
    return CredentialsError(
        f"{at}: the key is refused, or there is no such model or address ({said}); "
        "check the key, `model` and `base_url`"
    )


def unanswered(rules: Rules, requests: Sequence[Request], last: str) -> MedslmError:
    """Requests used up their attempts without an answer."""
    others = f" and {len(requests) - 1} more" if len(requests) > 1 else ""
    return TeacherDown(
        f"teacher {rules.name} at {rules.where}: no answer for PMID {requests[0].pmid}{others} in "
        f"{rules.attempts} attempts, at last {last}; {_SAFE}: run again when the endpoint answers"
    )


def wait_too_long(rules: Rules, seconds: float, why: str) -> MedslmError:
    """The endpoint wants a pause that nobody agreed to sit out."""
    until = time.strftime("%H:%M", time.localtime(time.time() + seconds))
    return TeacherDown(
        f"teacher {rules.name}: the endpoint asks to wait {seconds:.0f} s ({why}), longer than "
        f"max_wait_s {rules.max_wait_s:g}; {_SAFE}: run again after {until}"
    )


def refused_all(rules: Rules, seconds: float) -> MedslmError:
    """Nothing but refusals for longer than anybody agreed to wait."""
    return TeacherDown(
        f"teacher {rules.name}: every request of the last {seconds:.0f} s was refused for its rate "
        f"(HTTP 429), longer than max_wait_s {rules.max_wait_s:g}; {_SAFE}: run again later, or "
        "set rpm and tpm to what the endpoint allows"
    )


def over_budget(rules: Rules, budget: Budget, micros: int) -> MedslmError:
    """The next request could cost more than is left under the cap."""
    return MoneyError(
        f"teacher {rules.name}: max_usd is reached: ${budget.spent / 1e6:.4f} spent, and the next "
        f"request could cost ${micros / 1e6:.4f}; {_SAFE}: raise teachers.{rules.name}.max_usd and "
        "run again"
    )


def other_model(rules: Rules, asked: str, served: str) -> MedslmError:
    """Another model answered than the one the data is said to be from."""
    return TooManyFailures(
        f"teacher {rules.name}: {asked} was asked, {served} answered; {_SAFE}: if that is the same "
        f"model under another name, put it into teachers.{rules.name}.accept_models and run again"
    )


def all_rejected(rules: Rules, count: int, said: str) -> MedslmError:
    """So many rejections in a row that the settings must be wrong."""
    return TooManyFailures(
        f"teacher {rules.name}: the last {count} requests were all rejected ({said}); the settings "
        "do not fit this endpoint: look at model, temperature, max_tokens, structured"
    )
