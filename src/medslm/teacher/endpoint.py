"""The teacher behind an OpenAI-compatible endpoint: bounded concurrency and one retry law."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from medslm.errors import MedslmError, ParamsError, TeacherDown, TooManyFailures
from medslm.files import sha256_of_json
from medslm.params import Section
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request
from medslm.teacher.retry import Again, BadBody, Floor, Meaning, Stopped, backoff_s
from medslm.teacher.schemas import response_format
from medslm.teacher.wire import OPENAI_URL, Wire, failed, read_key

log = logging.getLogger(__name__)

# An unreadable body may be a hiccup; three for one request are how this server answers it.
_BAD_BODIES = 3
# So many rejections one after another are our mistake, not the requests'.
_REJECTED_IN_A_ROW = 20


class OpenAIParams(Section):
    """An OpenAI-compatible endpoint."""

    backend: Literal["openai"]
    base_url: Annotated[str, Field(pattern=r"^https?://")] | None
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None
    model: Annotated[str, Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    max_tokens: Annotated[int, Field(ge=1)]
    structured: bool
    concurrency: Annotated[int, Field(ge=1, le=256)]
    timeout_s: Annotated[float, Field(gt=0)]
    attempts: Annotated[int, Field(ge=1, le=100)]
    backoff_s: Annotated[float, Field(ge=0)]
    max_wait_s: Annotated[float, Field(gt=0)]
    max_failed_share: Annotated[float, Field(ge=0, le=1)]


class Endpoint:
    """Answers over HTTP, several requests in flight; the key is looked up when there is work."""

    def __init__(
        self, params: OpenAIParams, name: str, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._params = params
        self._name = name
        self._environ = environ
        self._base_url = checked_url(params.base_url, name)
        self._random = random.Random()  # jitter only: it must differ between processes

    def identity(self, strategy: str) -> dict[str, object]:
        """Return the endpoint's address and the schema that replies have to follow."""
        schema = sha256_of_json(response_format(strategy)) if self._params.structured else None
        return {"backend": "openai", "base_url": self._base_url, "schema": schema}

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yield replies as they arrive.

        After an error that stops all (CredentialsError, MoneyError, TeacherDown, ParamsError,
        TooManyFailures, Ctrl-C) nothing new is sent, what is in flight is awaited and yielded, then
        the error is raised.
        """
        params = self._params
        key = read_key(self._environ, params.key_env, self._name)
        wire = Wire(
            name=self._name,
            base_url=self._base_url,
            key=key,
            timeout_s=params.timeout_s,
            connections=params.concurrency,
            response_format=response_format if params.structured else None,
        )
        job = _Job(wire, params, self._name, self._random)
        try:
            yield from job.run(requests)
        finally:
            job.stop.set()
            wire.close()


class _Job:
    """One call of `answer`: its workers share a stop sign and the server's wish for a pause."""

    def __init__(self, wire: Wire, params: OpenAIParams, name: str, rng: random.Random) -> None:
        self.stop = threading.Event()
        self._floor = Floor()
        self._wire = wire
        self._params = params
        self._name = name
        self._random = rng

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        waiting = deque(requests)
        running: set[Future[Reply]] = set()
        fatal: BaseException | None = None
        rejected = 0
        with ThreadPoolExecutor(self._params.concurrency) as pool:
            while running or (waiting and fatal is None):
                while waiting and fatal is None and len(running) < self._params.concurrency:
                    running.add(pool.submit(self._answer, waiting.popleft()))
                try:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt as exc:
                    fatal, done = exc, set()
                for future in done:
                    error = future.exception()
                    if error is None:
                        reply = future.result()
                        rejected = rejected + 1 if reply.finish_reason == Meaning.REJECTED else 0
                        yield reply
                    elif not isinstance(error, Stopped):
                        fatal = fatal or error
                if fatal is None and rejected >= _REJECTED_IN_A_ROW:
                    fatal = self._all_rejected(rejected)
                if fatal is not None:
                    self.stop.set()
        if fatal is not None:
            raise fatal

    def _answer(self, request: Request) -> Reply:
        """Return one request's reply, repeating it as the retry law allows."""
        params = self._params
        bad_bodies = 0
        last = ""
        for attempt in range(1, params.attempts + 1):
            self._floor.wait(self.stop)
            try:
                return self._wire.send(request)
            except BadBody as exc:
                bad_bodies += 1
                log.warning("%s, PMID %s: %s", self._name, request.pmid, exc)
                if bad_bodies >= _BAD_BODIES:
                    return failed(request, "invalid")
                last = str(exc)
            except Again as exc:
                last = str(exc)
                self._obey(exc.retry_after_s, last)
            if attempt < params.attempts:
                self._pause(attempt)
        raise TeacherDown(
            f"teacher {self._name} ({params.base_url or 'OpenAI'}): no answer for PMID "
            f"{request.pmid} in {params.attempts} attempts, at last {last}; "
            "all replies so far are stored: run again when the endpoint answers"
        )

    def _obey(self, seconds: float | None, why: str) -> None:
        if seconds is None:
            return
        if seconds > self._params.max_wait_s:
            raise TeacherDown(
                f"teacher {self._name}: asks to wait {seconds:.0f} s ({why}), longer than "
                "max_wait_s "
                f"{self._params.max_wait_s:g}; all replies so far are stored: run again after "
                "that time"
            )
        self._floor.raise_by(seconds)

    def _pause(self, attempt: int) -> None:
        seconds = backoff_s(
            attempt,
            first_s=self._params.backoff_s,
            cap_s=self._params.max_wait_s,
            draw=self._random.random(),
        )
        if self.stop.wait(seconds):
            raise Stopped

    def _all_rejected(self, count: int) -> MedslmError:
        return TooManyFailures(
            f"teacher {self._name}: the last {count} requests were all rejected (HTTP 400 or 422); "
            "the settings do not fit this endpoint: look at model, temperature, max_tokens, "
            "structured"
        )


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
