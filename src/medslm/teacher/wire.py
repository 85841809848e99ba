"""One chat completion over HTTP through a client of the openai package, without retries."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from medslm.errors import CredentialsError
from medslm.teacher.client import client_headers, empty_request, open_client, open_http
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import APIStatusError

OPENAI_URL = "https://api.openai.com/v1"

# A body of ours is some kilobytes; escaped into a journal line it must stay below
# files.MAX_LINE_BYTES.
MAX_BODY_BYTES = 1 << 18

_KEY = re.compile(r"[\x21-\x7e]+")
_PREFLIGHT_S = 8.0
_SECRET_CHARS = 12  # the shortest keys of vendors have over 30


class Answered(NamedTuple):
    """Status 200: the body as it came, cut at MAX_BODY_BYTES, with its headers in lower case.

    Bytes that are no UTF-8 are kept as lone surrogates, so nothing is lost and nothing is guessed.
    """

    text: str
    request_id: str | None
    headers: Mapping[str, str]


class Refused(Exception):
    """An HTTP status that is no success, in the server's words, without the key."""

    def __init__(
        self,
        status: int,
        code: str | None,
        kind: str | None,
        message: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.code = code
        self.kind = kind
        self.headers = headers


class NoAnswer(Exception):
    """No whole answer came. ``charged`` is False where the request cannot have arrived."""

    def __init__(self, what: str, *, charged: bool) -> None:
        super().__init__(what)
        self.charged = charged


class Wire:
    """A connection to one endpoint. Failures leave it as our own errors, without the key."""

    def __init__(
        self,
        *,
        base_url: str,
        key: str | None,
        timeout_s: float,
        connections: int,
        response_format: Callable[[str], dict[str, Any]],
        service_tier: str | None,
    ) -> None:
        self._base_url = base_url
        self._key = key
        self._timeout_s = timeout_s
        self._response_format = response_format
        self._service_tier = service_tier
        self._headers = client_headers(key)
        self._http = open_http(connections)
        self._client = open_client(base_url, key, timeout_s, self._http, self._headers)
        self._empty = empty_request(self._client, self._http, self._headers, timeout_s)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def preflight(self) -> int:
        """Ask for the list of models, which costs nothing, and return the HTTP status.

        Any status says that somebody is there. Raises NoAnswer within ten seconds otherwise.
        """
        import httpx2
        import openai

        try:
            # Typed for parsed bodies; the raw response is what we want.
            answer = self._client.get(
                "/models",
                cast_to=httpx2.Response,
                options={"timeout": min(_PREFLIGHT_S, self._timeout_s), "headers": self._headers},
            )
        except openai.APIStatusError as exc:
            return exc.status_code
        except (openai.APIConnectionError, httpx2.HTTPError) as exc:
            raise self._no_answer(exc) from exc
        return answer.status_code

    def post(self, request: Request, *, max_tokens: int | None, structured: bool) -> Answered:
        """Send a request once and return what came; Refused or NoAnswer if that is no body.

        The answer is bounded in bytes, and in total time by the timeout.
        """
        import httpx2

        arguments = self.arguments(request, max_tokens=max_tokens, structured=structured)
        deadline = time.monotonic() + self._timeout_s
        try:
            with contextlib.closing(self._send(arguments)) as response:
                body = self._read(response, deadline)
        except httpx2.HTTPError as exc:
            raise self._no_answer(exc) from exc
        headers = dict(response.headers)
        if not response.is_success:
            raise refused(response.status_code, inner_error(body), headers, self._key)
        if "html" in headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<":
            # A captive portal or a proxy, not the endpoint: another time the request will do.
            raise NoAnswer("a web page instead of an answer", charged=False)
        return Answered(self.redact(body), headers.get("x-request-id"), headers)

    def _send(self, arguments: Mapping[str, Any]) -> Response:
        """Send a body and return the answer as soon as its headers are there.

        Through the client's own HTTP, with the client's own address and headers; the client would
        put those together anew for each request, which takes longer than all the rest.
        """
        import httpx2

        text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        empty = self._empty
        request = httpx2.Request(
            *(empty.method, empty.url),
            headers=empty.headers,
            content=text.encode(),
            extensions=empty.extensions,
        )
        return self._http.send(request, stream=True)

    def _read(self, response: Response, deadline: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                del body[MAX_BODY_BYTES:]
                break
            if time.monotonic() > deadline:
                what = f"no whole answer within {self._timeout_s:g} s"
                raise NoAnswer(what, charged=response.is_success)
        return bytes(body)

    def arguments(
        self, request: Request, *, max_tokens: int | None, structured: bool
    ) -> dict[str, Any]:
        """Return the JSON body of a request, without the parameters that are left to the server."""
        sampling = request.sampling
        # OpenAI's newer models refuse max_tokens; not every compatible server knows its successor.
        limit = "max_completion_tokens" if self._base_url == OPENAI_URL else "max_tokens"
        chosen = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            limit: max_tokens,
            "stop": list(sampling.stop) or None,
            "response_format": self._response_format(request.strategy) if structured else None,
            "service_tier": self._service_tier,
        }
        return {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "seed": sampling.seed,
            **{name: value for name, value in chosen.items() if value is not None},
        }

    def _no_answer(self, exc: Exception) -> NoAnswer:
        import httpx2
        import openai

        found = silence(exc, self._key)
        if isinstance(exc, (openai.APITimeoutError, httpx2.TimeoutException)):
            return NoAnswer(f"no answer within {self._timeout_s:g} s", charged=found.charged)
        return found

    def redact(self, body: bytes) -> str:
        """Return a body as text without the key."""
        return redacted(body, self._key).decode("utf-8", "surrogateescape")


def refusal(exc: APIStatusError, key: str | None) -> Refused:
    """Return an HTTP error that the client raised in the server's words, without the key."""
    headers = {name.lower(): value for name, value in exc.response.headers.items()}
    return refused(exc.status_code, exc.body, headers, key)


def refused(status: int, error: object, headers: Mapping[str, str], key: str | None) -> Refused:
    """Return an HTTP error in the words of its error object, without the key."""
    if not isinstance(error, dict):  # not a whole web page: only what an error body says itself
        return Refused(status, None, None, "no reason given", headers)
    code, kind = error.get("code"), error.get("type")
    said = str(error.get("message") or error.get("detail") or "")
    return Refused(
        status,
        None if code is None else str(code),
        kind if isinstance(kind, str) else None,
        short(said, key),
        headers,
    )


def inner_error(body: bytes) -> object:
    """Return the error object of a body: under "error" or all of it; None if it is no JSON."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value.get("error", value) if isinstance(value, dict) else value


def silence(exc: Exception, key: str | None) -> NoAnswer:
    """Return a failed connection in our words; uncharged if the request cannot have arrived."""
    import httpx2

    cause = exc.__cause__ or exc
    arrived = not isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout))
    return NoAnswer(f"{type(cause).__name__}: {short(str(cause), key)}", charged=arrived)


def short(text: str, key: str | None) -> str:
    """Return a server's words as one short line without the key."""
    text = redacted(text.encode("utf-8", "replace"), key).decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:200] + "..."


def failed(request: Request, reason: str, *, structured: bool) -> Reply:
    """Return the reply of a request that failed for good without content."""
    now = int(time.time())
    return Reply(request.key, None, reason, None, request.model, now, structured)


def redacted(body: bytes, key: str | None) -> bytes:
    """Return a body without the key. A short one, such as x or EMPTY, is a local server's dummy.

    It is no secret, and it stands in every body: taken out of "prompt_tokens", it would cost money.
    """
    if key is None or len(key) < _SECRET_CHARS:
        return body
    return body.replace(key.encode(), b"[key]")


def read_key(environ: Mapping[str, str], variable: str | None, name: str) -> str | None:
    """Return the endpoint's key without surrounding space; None if the endpoint needs none.

    CredentialsError, which never shows the value, if it is missing or cannot be sent in a header.
    """
    if variable is None:
        return None
    key = environ.get(variable, "").strip()
    if not key:
        raise CredentialsError(
            f"teacher {name}: the environment variable {variable} is empty or not set; put the "
            "key there, or set key_env: null for an endpoint without keys"
        )
    if not _KEY.fullmatch(key):
        raise CredentialsError(
            f"teacher {name}: the environment variable {variable} holds characters that no key "
            "has; copy the key again, on one line"
        )
    return key
