"""The only module that knows the openai package: one chat completion over HTTP, no retries."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from medslm.errors import CredentialsError
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

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
        self._client = open_client(base_url, key, timeout_s, connections, self._headers)

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
        import openai

        try:
            return self._read(request, max_tokens, structured)
        except openai.APIStatusError as exc:
            raise refusal(exc, self._key) from exc
        except (openai.APIConnectionError, httpx2.HTTPError) as exc:
            raise self._no_answer(exc) from exc

    def _read(self, request: Request, max_tokens: int | None, structured: bool) -> Answered:
        deadline = time.monotonic() + self._timeout_s
        body = bytearray()
        arguments = self.arguments(request, max_tokens=max_tokens, structured=structured)
        # As extra_body the arguments go out as they are; otherwise the client walks through all of
        # them by their types first, which takes a fifth of its time.
        create = self._client.chat.completions.with_streaming_response.create
        with create(
            model=request.model, messages=[], extra_body=arguments, extra_headers=self._headers
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    del body[MAX_BODY_BYTES:]
                    break
                if time.monotonic() > deadline:
                    raise NoAnswer(f"no whole answer within {self._timeout_s:g} s", charged=True)
        if "html" in headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<":
            # A captive portal or a proxy, not the endpoint: another time the request will do.
            raise NoAnswer("a web page instead of an answer", charged=False)
        return Answered(self.redact(bytes(body)), headers.get("x-request-id"), headers)

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
        import openai

        found = silence(exc, self._key)
        if isinstance(exc, openai.APITimeoutError):
            return NoAnswer(f"no answer within {self._timeout_s:g} s", charged=found.charged)
        return found

    def redact(self, body: bytes) -> str:
        """Return a body as text without the key."""
        return redacted(body, self._key).decode("utf-8", "surrogateescape")


def refusal(exc: APIStatusError, key: str | None) -> Refused:
    """Return an HTTP error in the server's words, without the key."""
    headers = {name.lower(): value for name, value in exc.response.headers.items()}
    # Not a whole web page: only what an error body says itself.
    said = "no reason given"
    if isinstance(exc.body, dict):
        said = str(exc.body.get("message") or exc.body.get("detail") or "")
    return Refused(exc.status_code, exc.code, exc.type, short(said, key), headers)


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


def open_client(
    base_url: str, key: str | None, timeout_s: float, connections: int, headers: dict[str, Any]
) -> OpenAI:
    """Make a client that does only what it is told, whatever OPENAI_* variables say."""
    import httpx2
    import openai

    # Importing openai sets the level that OPENAI_LOG names.
    logging.getLogger("openai").setLevel(logging.WARNING)
    http = openai.DefaultHttpxClient(
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
    )
    return openai.OpenAI(
        api_key=key or "none",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        http_client=http,
        default_headers=headers,
    )


def client_headers(key: str | None) -> dict[str, Any]:
    """Return our headers, with every one that the environment could add omitted."""
    from openai import Omit

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    foreign = {line.partition(":")[0].strip() for line in lines if ":" in line}
    authorization = Omit() if key is None else f"Bearer {key}"
    return {
        **dict.fromkeys(foreign, Omit()),
        "OpenAI-Organization": Omit(),
        "OpenAI-Project": Omit(),
        "Authorization": authorization,
    }
