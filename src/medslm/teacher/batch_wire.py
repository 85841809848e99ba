"""The only module of the batch path that knows the openai package: files and batches over HTTP.

What costs nothing is repeated here by the retry law. `BatchWire.create` costs money and is not.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, TypeVar

from medslm.errors import CredentialsError, MedslmError, ParamsError, TeacherDown
from medslm.files import MAX_LINE_BYTES, loads_strict
from medslm.teacher import stops
from medslm.teacher.batch_rows import Remote, read_remote, text_of
from medslm.teacher.client import client_headers, open_client, open_http
from medslm.teacher.retry import Meaning, backoff_s, classify, retry_after_s
from medslm.teacher.stops import Rules
from medslm.teacher.wire import (
    NoAnswer,
    Refused,
    redacted,
    refusal,
    silence,
)

T = TypeVar("T")

ENDPOINT: Final = "/v1/chat/completions"
_METADATA = "medslm_batch"
_TOO_LATE = (400, 409)  # how a cancellation is refused when there is nothing left to cancel
_PAGE = 100  # the most that the list of batches gives at once
_MAX_JSON_BYTES = 1 << 24  # a page of 100 batches with full metadata is below 2 MB
# 50,000 answers of 4,096 tokens with their envelopes are about 1 GB.
MAX_FILE_BYTES = 4 << 30


class Gone(Exception):
    """The server does not have this (HTTP 404)."""


class TooLong(Exception):
    """A result file is longer than any that is taken."""


class BatchWire:
    """The files and batches of one endpoint. Failures leave it as our own errors, without the key."""

    def __init__(
        self,
        rules: Rules,
        *,
        base_url: str,
        key: str | None,
        rng: random.Random,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._rules = rules
        self._key = key
        self._random = rng
        self._sleep = sleep
        self._clock = clock
        self._max_file_bytes = max_file_bytes
        self._headers = client_headers(key)
        self._client = open_client(base_url, key, rules.timeout_s, open_http(1), self._headers)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def upload(self, stream: BinaryIO, filename: str) -> str:
        """Upload an input file and return its id. An upload of unknown outcome is looked for first."""
        create = self._client.files.with_streaming_response.create
        doubtful = False

        def attempt() -> str:
            nonlocal doubtful
            if doubtful and (found := self.find_file(filename)) is not None:
                return found
            doubtful = True
            stream.seek(0)
            file = (filename, stream, "application/jsonl")
            return text_of(self._json(lambda **kw: create(file=file, purpose="batch", **kw)), "id")

        with self._expects_batches():
            return self._free(attempt)

    def find_file(self, filename: str) -> str | None:
        """Return the id of the input file of that name, if the server has it."""
        listing = self._client.files.with_streaming_response.list
        pages = self._pages(lambda **kw: listing(purpose="batch", **kw))
        with self._expects_batches():
            return next((text_of(f, "id") for f in pages if f.get("filename") == filename), None)

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is not there will do."""
        delete = self._client.files.with_streaming_response.delete
        with contextlib.suppress(Gone):
            self._free(lambda: self._json(lambda **kw: delete(file_id, **kw)))

    def create(self, file_id: str, number: str) -> Remote:
        """Make a batch of an input file, once. After Refused or NoAnswer, `find` says if it is there."""
        create = self._client.batches.with_streaming_response.create
        return read_remote(
            self._json(
                lambda **kw: create(
                    input_file_id=file_id,
                    endpoint=ENDPOINT,
                    completion_window="24h",
                    metadata={_METADATA: number},
                    **kw,
                )
            )
        )

    def find(self, number: str) -> Remote | None:
        """Return the batch with our number in its metadata, whatever its state, or None."""
        pages = self._pages(self._client.batches.with_streaming_response.list)
        with self._expects_batches():
            for value in pages:
                metadata = value.get("metadata")
                if isinstance(metadata, dict) and metadata.get(_METADATA) == number:
                    return read_remote(value)
        return None

    def get(self, batch_id: str) -> Remote:
        """Return a batch as it is now."""
        retrieve = self._client.batches.with_streaming_response.retrieve
        try:
            return self._free(
                lambda: read_remote(self._json(lambda **kw: retrieve(batch_id, **kw)))
            )
        except Gone as exc:
            raise CredentialsError(
                f"teacher {self._rules.name} at {self._rules.where}: batch {batch_id} is not there "
                f"for this key ({exc}); use the key, or a key of the project, that submitted it"
            ) from None

    def cancel(self, batch_id: str) -> None:
        """Ask for a batch to be cancelled; one that has ended meanwhile will do."""
        cancel = self._client.batches.with_streaming_response.cancel

        def attempt() -> None:
            try:
                self._json(lambda **kw: cancel(batch_id, **kw))
            except Refused as exc:
                if exc.status not in _TOO_LATE:
                    raise

        with contextlib.suppress(Gone):
            self._free(attempt)

    def rows(self, file_id: str) -> Iterator[bytes]:
        """Yield the lines of a result file, each at most 1 MiB of it, without the key.

        A download that is cut goes on behind the last line that came. Raises Gone if the server
        does not have the file, TooLong if it has no end.
        """
        passed, tries, before = 0, 0, 0
        while True:
            try:
                for number, line in enumerate(self._download(file_id)):
                    if number == passed:
                        passed += 1
                        yield line
                return
            except (NoAnswer, Refused) as exc:
                tries = tries + 1 if passed == before else 1
                before = passed
                self._give_up_or_wait(tries, exc)

    def pause(self, tries: int, exc: NoAnswer | Refused) -> None:
        """Wait after a failed try as long as the retry law and the server ask for."""
        headers = exc.headers if isinstance(exc, Refused) else {}
        wait_s = retry_after_s(headers.get("retry-after"), headers.get("date"))
        if wait_s is not None and wait_s > self._rules.max_wait_s:
            raise stops.wait_too_long(self._rules, wait_s, str(exc))
        first_s, cap_s = self._rules.backoff_s, self._rules.max_wait_s
        pause = backoff_s(tries, first_s=first_s, cap_s=cap_s, draw=self._random.random())
        self._sleep(max(pause, wait_s or 0.0))

    def error(self, meaning: Meaning, said: str) -> MedslmError:
        """Return what to raise for an answer that no waiting cures."""
        if meaning in (Meaning.REJECTED, Meaning.FILTERED):
            return ParamsError(
                f"teacher {self._rules.name} at {self._rules.where}: the batch was rejected "
                f"({said}); the settings do not fit: look at model, temperature, max_tokens, "
                "structured, or set mode: sync"
            )
        return stops.stops_all(self._rules, meaning, said)

    def _free(self, attempt: Callable[[], T]) -> T:
        """Return what a call that costs nothing gives, repeating it as the retry law allows."""
        tries = 0
        while True:
            try:
                return attempt()
            except (NoAnswer, Refused) as exc:
                tries += 1
                self._give_up_or_wait(tries, exc)

    def _give_up_or_wait(self, tries: int, exc: NoAnswer | Refused) -> None:
        if isinstance(exc, Refused):
            if exc.status == 404:
                raise Gone(str(exc)) from exc
            meaning = classify(exc.status, exc.code, exc.kind)
            if meaning is not Meaning.AGAIN:
                raise self.error(meaning, str(exc)) from exc
        if tries >= self._rules.attempts:
            raise TeacherDown(
                f"teacher {self._rules.name} at {self._rules.where}: no answer about a batch in "
                f"{tries} attempts, at last {exc}; nothing is lost: run again when it answers"
            ) from exc
        self.pause(tries, exc)

    def _pages(self, listing: Callable[..., Any]) -> Iterator[dict[str, Any]]:
        """Yield the objects of a list, however many pages it has."""
        after: dict[str, str] = {}
        while True:
            page = self._free(
                lambda after=after: self._json(  # type: ignore[misc]
                    lambda **kw: listing(limit=_PAGE, **after, **kw)
                )
            )
            data = page.get("data")
            found = [v for v in data if isinstance(v, dict)] if isinstance(data, list) else []
            yield from found
            last = str(found[-1].get("id")) if found else ""
            if not found or page.get("has_more") is not True or after.get("after") == last:
                return
            after = {"after": last}

    def _json(self, call: Callable[..., Any]) -> dict[str, Any]:
        """Make one call and return the JSON object it gives; Refused or NoAnswer if it gives none."""
        deadline = self._clock() + self._rules.timeout_s
        body = bytearray()
        with self._translated(), call(extra_headers=self._headers) as response:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_JSON_BYTES or self._clock() > deadline:
                    raise NoAnswer("an answer without an end", charged=True)
        try:
            value = loads_strict(self._redact(bytes(body)).decode("utf-8"))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise NoAnswer("an answer that is no JSON object", charged=True)
        return value

    def _download(self, file_id: str) -> Iterator[bytes]:
        """Yield the lines of one download; what is longer than a line may be is cut off."""
        content = self._client.files.with_streaming_response.content
        line, size = bytearray(), 0
        with self._translated(), content(file_id, extra_headers=self._headers) as response:
            if "html" in response.headers.get("content-type", "").lower():
                raise NoAnswer("a web page instead of a file", charged=False)
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > self._max_file_bytes:
                    raise TooLong(f"the file is longer than {self._max_file_bytes} bytes")
                head, *parts = chunk.split(b"\n")
                line += head[: MAX_LINE_BYTES - len(line)]
                for part in parts:
                    yield self._redact(bytes(line))
                    line = bytearray(part[:MAX_LINE_BYTES])
        if line:
            yield self._redact(bytes(line))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        import httpx2
        import openai

        try:
            yield
        except openai.APIStatusError as exc:
            raise refusal(exc, self._key) from exc
        except (openai.APIConnectionError, httpx2.HTTPError) as exc:
            raise silence(exc, self._key) from exc

    @contextlib.contextmanager
    def _expects_batches(self) -> Iterator[None]:
        try:
            yield
        except Gone as exc:
            raise ParamsError(
                f"teacher {self._rules.name} at {self._rules.where}: there is no Batch API "
                f"({exc}); set mode: sync"
            ) from None

    def _redact(self, body: bytes) -> bytes:
        return redacted(body, self._key)
