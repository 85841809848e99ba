"""A real HTTP server on port 0 that answers like a chat-completions endpoint, or misbehaves on demand."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server sends; ``delay_s`` before the status line, ``drip_s`` between single bytes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.0
    hang_up: bool = False


def says(content: str | None, *, finish_reason: str | None = "stop", **message: Any) -> Answer:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "served-model",
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"content": content, **message}}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    return Answer(body=json.dumps(body).encode())


def fails(
    status: int, *, code: str | None = None, kind: str | None = None, **headers: str
) -> Answer:
    error = {"message": f"failed with {status}", "code": code, "type": kind}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"error": error}).encode(), named)


@dataclass
class Received:
    at: float
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.body["messages"][-1]["content"])


class FakeEndpoint:
    """Answers each request by ``respond(request, how many requests there were before)``."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.requests: list[Received] = []
        self.respond: Callable[[Received, int], Answer] = lambda request, _: echo(request)
        self.lock = threading.Lock()

    def will(self, *answers: Answer) -> None:
        """Answer in this order; a request beyond them gets 418, which fails the test loudly."""
        queue = list(answers)
        self.respond = lambda _, n: queue[n] if n < len(queue) else Answer(418)

    def receive(self, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        received = Received(time.monotonic(), headers, body)
        with self.lock:
            before = len(self.requests)
            self.requests.append(received)
        return self.respond(received, before)


def echo(request: Received) -> Answer:
    """Answer with a text that depends on the request alone."""
    return says(
        json.dumps({"question": f"Is seed {request.body['seed']} the one?", "answer": "yes"})
    )


@contextlib.contextmanager
def serving() -> Iterator[FakeEndpoint]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            lowered = {name.lower(): value for name, value in self.headers.items()}
            answer = endpoint.receive(lowered, body)
            time.sleep(answer.delay_s)
            with contextlib.suppress(ConnectionError):
                self.reply(answer)

        def reply(self, answer: Answer) -> None:
            if answer.hang_up:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            if not answer.drip_s:
                self.wfile.write(answer.body)
                return
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(answer.drip_s)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was killed is part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    endpoint = FakeEndpoint(server.server_address[1])
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
