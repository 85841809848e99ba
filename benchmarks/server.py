"""A loopback chat-completions server that counts what it would have billed and misbehaves on request.

Run ``python -m benchmarks.server`` for its address on stdout; ``POST /reset`` takes the fields of
`Manners` as JSON and forgets everything, ``POST /mark`` begins a new phase without forgetting the
bills, ``GET /stats`` tells what happened. One process of its own, so that it never shares an
interpreter with the client that is measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import click

WINDOW_S = 60.0


@dataclass(frozen=True)
class Manners:
    """How the server behaves until the next reset.

    ``poison``: a request with this text in a message gets 400, always. ``refuse_share``: this share
    of all requests gets 429 without a Retry-After, drawn by ``seed``. ``rpm``: so many are accepted
    in any ``window_s`` seconds, the others get 429 and do not count. ``retry_after``: "right" says
    when the next place is free, "understated" always says 1 s, "none" says nothing. ``headers``:
    every answer of a limited server carries x-ratelimit headers.
    """

    latency_s: float = 0.0
    poison: str | None = None
    refuse_share: float = 0.0
    seed: int = 0
    rpm: int | None = None
    window_s: float = WINDOW_S
    retry_after: Literal["right", "understated", "none"] = "right"
    headers: bool = False


class Limiter:
    """A sliding window: at most ``limit`` acceptances in any ``window_s`` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._accepted: deque[float] = deque(maxlen=limit)

    def free_in(self, now: float) -> float:
        """Return the seconds until a request is accepted; 0 if it would be now."""
        if len(self._accepted) < self._limit:
            return 0.0
        return max(0.0, self._accepted[0] + self._window_s - now)

    def accept(self, now: float) -> None:
        """Count one request that was accepted."""
        self._accepted.append(now)

    def headers(self, now: float) -> dict[str, str]:
        """Return the x-ratelimit headers as OpenAI names them."""
        used = sum(at > now - self._window_s for at in self._accepted)
        reset = max(0.0, self._accepted[-1] + self._window_s - now) if self._accepted else 0.0
        return {
            "x-ratelimit-limit-requests": str(self._limit),
            "x-ratelimit-remaining-requests": str(self._limit - used),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }


class Bench:
    """What the server remembers: manners, bills per prompt, and counts of the current phase."""

    def __init__(self) -> None:
        # Never begun again: two requests never get the same words, as from a model that samples.
        self.numbers = itertools.count(1)
        self.reset(Manners())

    def reset(self, manners: Manners) -> None:
        """Forget everything and behave like this from now on."""
        self.manners = manners
        self.bills: Counter[bytes] = Counter()
        self.limiter = None if manners.rpm is None else Limiter(manners.rpm, manners.window_s)
        self.random = random.Random(manners.seed)
        self.in_flight = 0
        self.mark()

    def mark(self) -> None:
        """Begin a new phase: times and counts start again, the bills stay."""
        self.statuses: Counter[int] = Counter()
        self.requests = self.repeated = self.unheard = 0
        self.max_in_flight = self.in_flight
        self.refused_at: list[float] = []
        self.first_at: float | None = None
        self.last_at: float | None = None

    def judge(self, messages: list[Any], now: float) -> tuple[int, dict[str, str]]:
        """Return the status and the headers that a request gets."""
        headers = self.limiter.headers(now) if self.limiter and self.manners.headers else {}
        if not messages or (self.manners.poison and self.manners.poison in json.dumps(messages)):
            return 400, headers
        if self.manners.refuse_share and self.random.random() < self.manners.refuse_share:
            return 429, headers
        if self.limiter is None:
            return 200, headers
        wait_s = self.limiter.free_in(now)
        if wait_s <= 0:
            self.limiter.accept(now)
            return 200, self.limiter.headers(now) if headers else {}
        if self.manners.retry_after != "none":
            right = self.manners.retry_after == "right"
            headers["retry-after"] = str(math.ceil(wait_s)) if right else "1"
        return 429, headers

    def bill(self, prompt: bytes, heard: bool) -> None:
        """Count a 200. One whose client hung up is billed too: the work is done by then."""
        self.bills[prompt] += 1
        self.repeated += self.bills[prompt] > 1
        self.unheard += not heard

    def stats(self) -> dict[str, Any]:
        """Return the counts: prompts and re-billed since reset, the rest since the last mark."""
        return {
            "prompts": len(self.bills),
            "billed": self.bills.total(),
            "re_billed": self.bills.total() - len(self.bills),
            "requests": self.requests,
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "repeated": self.repeated,
            "unheard": self.unheard,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "refused_after_s": [round(at - (self.first_at or at), 3) for at in self.refused_at],
            "first_at": self.first_at,
            "last_at": self.last_at,
            "now": time.monotonic(),
            "manners": asdict(self.manners),
        }


def completion(model: str, number: int) -> dict[str, Any]:
    """Return a whole reply in the shape that all clients accept."""
    content = {
        "question": f"Does remedy {number} help the people of this made-up study?",
        "answer": "yes",
        "long_answer": f"Remedy {number} helped more often than the sham did.",
    }
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {
                    "role": "assistant",
                    "content": json.dumps(content),
                    "refusal": None,
                },
            }
        ],
        "usage": {"prompt_tokens": 400, "completion_tokens": 40, "total_tokens": 440},
    }


def error(status: int) -> dict[str, Any]:
    """Return an error body as OpenAI writes it."""
    codes = {400: "invalid_value", 404: "not_found", 429: "rate_limit_exceeded"}
    kind = "requests" if status == 429 else "invalid_request_error"
    said = {"message": f"refused with {status}", "type": kind, "code": codes[status]}
    return {"error": said | {"param": None}}


class Connection(asyncio.Protocol):
    """One keep-alive connection, parsed by hand: a framework would cost more than most clients."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _exc: Exception | None) -> None:
        """Remember that nobody hears the answers any more."""
        self._open = False

    def data_received(self, data: bytes) -> None:
        """Take every whole request out of what came so far."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            length = _content_length(head)
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
            self._route(method, path, body)

    def _route(self, method: str, path: str, body: bytes) -> None:
        bench = self._bench
        if path.endswith("/chat/completions"):
            self._complete(json.loads(body))
        elif path == "/stats":
            self._answer(200, bench.stats())
        elif path == "/mark":
            bench.mark()
            self._answer(200, {})
        elif path == "/reset":
            bench.reset(Manners(**json.loads(body or b"{}")))
            self._answer(200, {})
        elif path.endswith("/models") and method == "GET":
            model = {"id": "bench-model", "object": "model", "created": 0, "owned_by": "bench"}
            self._answer(200, {"object": "list", "data": [model]})
        else:
            self._answer(404, error(404))

    def _complete(self, request: dict[str, Any]) -> None:
        bench = self._bench
        now = time.monotonic()
        bench.requests += 1
        messages = request.get("messages", [])
        status, headers = bench.judge(messages, now)
        if status != 200:
            bench.statuses[status] += 1
            bench.refused_at.append(now)
            self._answer(status, error(status), headers)
            return
        bench.first_at = now if bench.first_at is None else bench.first_at
        prompt = hashlib.blake2b(json.dumps(messages).encode(), digest_size=16).digest()
        bench.in_flight += 1
        bench.max_in_flight = max(bench.max_in_flight, bench.in_flight)
        reply = completion(str(request["model"]), next(bench.numbers))

        def deliver() -> None:
            bench.in_flight -= 1
            bench.statuses[200] += 1
            bench.last_at = time.monotonic()
            bench.bill(prompt, self._open)
            self._answer(200, reply, headers)

        _later(bench.manners.latency_s, deliver)

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        if not self._open or self._transport is None:
            return
        text = json.dumps(body).encode()
        lines = [
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}",
            "content-type: application/json",
            f"content-length: {len(text)}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        self._transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + text)


def _later(seconds: float, call: Callable[[], None]) -> None:
    if seconds > 0:
        asyncio.get_running_loop().call_later(seconds, call)
    else:
        call()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


async def serve(port: int) -> None:
    """Serve on loopback until the process is ended; the address is the one line on stdout."""
    bench = Bench()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(bench), "127.0.0.1", port, backlog=1024)
    click.echo(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


@click.command()
@click.option("--port", type=int, default=0, show_default=True, help="0 takes a free one.")
def main(port: int) -> None:
    """Start the server."""
    asyncio.run(serve(port))


if __name__ == "__main__":
    main()
