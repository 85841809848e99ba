"""A real HTTP server on port 0 that answers like a chat-completions endpoint, or misbehaves on demand."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
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


_numbers = itertools.count()


def says(
    content: str | None, *, finish_reason: str | None = "stop", model: str = "m", **message: Any
) -> Answer:
    body = {
        "id": f"chatcmpl-{next(_numbers)}",
        "object": "chat.completion",
        "model": model,
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
        self.models = Answer(body=b'{"object": "list", "data": []}')
        self.looks = 0  # at the list of models, which costs nothing
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

        def do_GET(self) -> None:
            with endpoint.lock:
                endpoint.looks += 1
            time.sleep(endpoint.models.delay_s)
            with contextlib.suppress(ConnectionError):
                self.reply(endpoint.models)

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
            self.send_response_only(answer.status)  # without a Date beside the scripted one
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
        request_queue_size = 128  # with five, a burst on a busy machine waits a second each

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


Script = Callable[[socket.socket, int], None]


@contextlib.contextmanager
def raw_serving(script: Script) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a server that reads a request, then lets ``script`` misbehave on the socket.

    The list fills with the request bodies; a look at the models is answered and not listed.
    """
    received: list[bytes] = []
    lock = threading.Lock()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (request := _read_request(connection)) is not None:
                head, body = request
                if head.startswith(b"GET"):
                    connection.sendall(ok(b'{"data": []}'))
                    continue
                with lock:
                    before = len(received)
                    received.append(body)
                script(connection, before)
                if connection.fileno() < 0:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ok(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """Return a 200 answer; ``length`` None states the true one."""
    lines = [
        b"HTTP/1.1 200 OK",
        b"content-type: application/json",
        b"content-length: %d" % (len(body) if length is None else length),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset, as a crashed peer does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _read_request(connection: socket.socket) -> tuple[bytes, bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head, body
