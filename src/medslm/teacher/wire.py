"""The only module that knows the openai package: one chat completion over HTTP, no retries."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from medslm.errors import CredentialsError, MedslmError, MoneyError, ParamsError
from medslm.teacher.completion import ErrorBody, read_completion
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request
from medslm.teacher.retry import Again, BadBody, Meaning, classify, retry_after_s

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

OPENAI_URL = "https://api.openai.com/v1"

# A body of ours is some kilobytes; escaped into a journal line it must stay below
# files.MAX_LINE_BYTES.
MAX_BODY_BYTES = 1 << 18

_KEY = re.compile(r"[\x21-\x7e]+")


class Wire:
    """A connection to one endpoint. Failures leave it as our own errors, without the key."""

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        key: str | None,
        timeout_s: float,
        connections: int,
        response_format: Callable[[str], dict[str, Any]] | None,
    ) -> None:
        self._name = name
        self._base_url = base_url
        self._key = key
        self._timeout_s = timeout_s
        self._response_format = response_format
        self._headers = _headers(key)
        self._client = _client(base_url, key, timeout_s, connections, self._headers)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def send(self, request: Request) -> Reply:
        """Send a request once and return its reply, failed for good or not.

        Raises Again or BadBody if another try may help, CredentialsError, MoneyError or ParamsError
        if no request can succeed.
        """
        import httpx2
        import openai

        try:
            return self._read(request, self._post(request))
        except openai.APIStatusError as exc:
            return self._refused(request, exc)
        except openai.APITimeoutError as exc:
            raise Again(f"no answer within {self._timeout_s:g} s") from exc
        except (openai.APIConnectionError, httpx2.HTTPError) as exc:
            cause = exc.__cause__ or exc
            raise Again(f"{type(cause).__name__}: {self._clean(str(cause))}") from exc

    def _post(self, request: Request) -> bytes:
        """Return the body of a 200 answer, bounded in bytes and in total time."""
        deadline = time.monotonic() + self._timeout_s
        body = bytearray()
        create = self._client.chat.completions.with_streaming_response.create
        with create(**self._arguments(request), extra_headers=self._headers) as response:
            html = "html" in response.headers.get("content-type", "").lower()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BadBody(f"the body is longer than {MAX_BODY_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise Again(f"no whole answer within {self._timeout_s:g} s")
        if html or body.lstrip()[:1] == b"<":
            # A captive portal or a proxy, not the endpoint: another time the request will do.
            raise Again("a web page instead of an answer")
        return (
            bytes(body) if self._key is None else bytes(body).replace(self._key.encode(), b"[key]")
        )

    def _read(self, request: Request, body: bytes) -> Reply:
        try:
            found = read_completion(body)
        except ErrorBody as exc:
            # Status 200 says nothing here; 500 lets the code alone decide.
            raise self._error(
                classify(500, exc.code, exc.kind), "an error with status 200", str(exc), None
            ) from None
        return Reply(
            key=request.key,
            content=found.content,
            finish_reason=found.finish_reason,
            usage=found.usage,
            served_model=request.model if found.model is None else found.model,
            created=int(time.time()),
        )

    def _refused(self, request: Request, exc: APIStatusError) -> Reply:
        meaning = classify(exc.status_code, exc.code, exc.type)
        if meaning in (Meaning.FILTERED, Meaning.REJECTED):
            return failed(request, meaning.value)
        headers = exc.response.headers
        wait_s = retry_after_s(headers.get("retry-after"), headers.get("date"))
        raise self._error(meaning, f"HTTP {exc.status_code}", _message(exc), wait_s) from exc

    def _error(
        self, meaning: Meaning, what: str, detail: str, wait_s: float | None
    ) -> MedslmError | Again:
        said = f"{what}: {self._clean(detail)}"
        at = f"teacher {self._name} at {self._base_url}"
        if meaning is Meaning.MONEY:
            return MoneyError(
                f"{at}: quota or credit is used up ({said}); all replies so far are stored"
            )
        if meaning is Meaning.CREDENTIALS:
            return CredentialsError(
                f"{at}: the key is refused, or there is no such model or address ({said}); "
                "check the key, `model` and `base_url`"
            )
        if meaning is Meaning.REDIRECT:
            return ParamsError(f"{at}: it redirects ({what}); give the final address as base_url")
        return Again(said, wait_s)

    def _arguments(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        # OpenAI's newer models refuse max_tokens; not every compatible server knows its successor.
        limit = "max_completion_tokens" if self._base_url == OPENAI_URL else "max_tokens"
        chosen = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            limit: sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            "response_format": self._response_format and self._response_format(request.strategy),
        }
        return {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "seed": sampling.seed,
            **{name: value for name, value in chosen.items() if value is not None},
        }

    def _clean(self, text: str) -> str:
        """Return a server's words as one short line without the key."""
        if self._key is not None:
            text = text.replace(self._key, "[key]")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= 200 else line[:200] + "..."


def failed(request: Request, reason: str) -> Reply:
    """Return the reply of a request that failed for good without content."""
    return Reply(request.key, None, reason, None, request.model, int(time.time()))


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
            "key there, "
            "or set key_env: null for an endpoint without keys"
        )
    if not _KEY.fullmatch(key):
        raise CredentialsError(
            f"teacher {name}: the environment variable {variable} holds characters that no key "
            "has; "
            "copy the key again, on one line"
        )
    return key


def _client(
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


def _headers(key: str | None) -> dict[str, Any]:
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


def _message(exc: APIStatusError) -> str:
    """Return the server's own words, unless they are a whole web page."""
    if isinstance(exc.body, dict):
        return str(exc.body.get("message", ""))
    return "no reason given"
