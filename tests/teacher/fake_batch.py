"""A real HTTP server on port 0 with the files and batches of the OpenAI API, kept in memory."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TERMINAL = {"completed", "failed", "expired", "cancelled"}


@dataclass
class Answer:
    """What goes over the wire. ``cut`` closes the connection after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None

    @staticmethod
    def of(value: Any) -> Answer:
        return Answer(body=json.dumps(value).encode())


def fails(status: int, code: str | None = None, message: str = "no", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": {"message": message, "code": code, "type": None}}).encode()
    return Answer(status, body, named)


def completion(content: str, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{content}",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"content": content}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        **more,
    }


def row(key: str, status: int, body: Any) -> dict[str, Any]:
    response = {"status_code": status, "request_id": f"req_{key[:6]}", "body": body}
    return {"id": f"batch_req_{key[:6]}", "custom_id": key, "response": response, "error": None}


def answered(line: dict[str, Any]) -> dict[str, Any]:
    """Answer a line of the input file with a text that depends on its body alone."""
    body = line["body"]
    return row(line["custom_id"], 200, completion(f"seed {body['seed']}"))


def refused(line: dict[str, Any], status: int, code: str | None, message: str) -> dict[str, Any]:
    return row(line["custom_id"], status, {"error": {"message": message, "code": code}})


def unfinished(line: dict[str, Any], code: str = "batch_expired") -> dict[str, Any]:
    error = {"code": code, "message": "This request could not be executed in time."}
    return {"id": "x", "custom_id": line["custom_id"], "response": None, "error": error}


def is_paid(row: Any) -> bool:
    return bool(isinstance(row, dict) and (row["response"] or {}).get("status_code") == 200)


class FakeBatches:
    """Works on a batch while it is asked about: it ends at the ``polls``-th question.

    ``answer`` gives the row of each line, ``ends`` the status a batch ends with, ``edit`` the bytes
    of its output and error file; ``before`` and ``after`` see every call ("POST /files") around its
    effect and may answer in its place. ``paid`` counts the answers by the seed of their request, in
    whatever mode it came.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.lock = threading.RLock()
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.left: dict[str, int] = {}
        self.calls: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.paid: Counter[int] = Counter()
        self.polls = 1
        self.page = 100
        self.shows_metadata = True
        self.answer: Callable[[dict[str, Any]], Any] = answered
        self.ends: Callable[[dict[str, Any]], str] = lambda _: "completed"
        self.faults: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda _: []
        self.edit: Callable[[bytes, bytes], tuple[bytes, bytes]] = lambda out, err: (out, err)
        self.before: Callable[[str], Answer | None] = lambda _: None
        self.after: Callable[[str], Answer | None] = lambda _: None
        self._number = 0

    def lines(self, batch_id: str) -> list[dict[str, Any]]:
        """The requests in a batch, as its input file gave them when it was made."""
        return self.inputs[batch_id]

    def sizes(self) -> list[int]:
        """How many requests each batch has, in the order they were made."""
        return [len(self.lines(number)) for number in self.batches]

    def handle(self, method: str, path: str, query: dict[str, Any], body: bytes) -> Answer:
        with self.lock:
            shape = re.sub(r"(file|batch)-[0-9]+", "ID", path.removeprefix("/v1"))
            call = f"{method} {shape}"
            self.calls.append(call)
            early = self.before(call)
            if early is not None:
                return early
            done = self.act(method, path.removeprefix("/v1").split("/")[1:], query, body)
            return self.after(call) or done

    def act(self, method: str, path: list[str], query: dict[str, Any], body: bytes) -> Answer:
        match method, path:
            case "POST", ["files"]:
                return self.upload(body)
            case "GET", ["files"]:
                return self.listed(list(map(self.file, self.files)), query)
            case "GET", ["files", number, "content"] if number in self.files:
                return Answer(body=self.files[number][1])
            case "DELETE", ["files", number] if number in self.files:
                del self.files[number]
                return Answer.of({"id": number, "deleted": True})
            case "POST", ["batches"]:
                return self.create(json.loads(body))
            case "GET", ["batches"]:
                shown = [dict(b) for b in reversed(self.batches.values())]
                for batch in shown if not self.shows_metadata else ():
                    batch["metadata"] = None
                return self.listed(shown, query)
            case "GET", ["batches", number] if number in self.batches:
                return self.poll(self.batches[number])
            case "POST", ["batches", number, "cancel"] if number in self.batches:
                return self.cancel(self.batches[number])
            case "POST", ["chat", "completions"]:
                return self.at_once(json.loads(body))
        return fails(404, None, "no such thing")

    def new(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._number}"

    def upload(self, body: bytes) -> Answer:
        # One part is the purpose, the other the file: take what stands between header and boundary.
        boundary = body.split(b"\r\n", 1)[0]
        parts = [p.split(b"\r\n\r\n", 1) for p in body.split(boundary)[1:-1]]
        head, content = next((h, c) for h, c in parts if b"filename=" in h)
        found = re.search(rb'filename="([^"]*)"', head)
        assert found is not None
        number = self.new("file")
        self.files[number] = (found[1].decode(), content.removesuffix(b"\r\n"))
        return Answer.of(self.file(number))

    def file(self, number: str) -> dict[str, Any]:
        name, content = self.files[number]
        return {"id": number, "object": "file", "filename": name, "bytes": len(content)}

    def listed(self, found: list[dict[str, Any]], query: dict[str, Any]) -> Answer:
        ids = [value["id"] for value in found]
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        data = found[start : start + self.page]
        more = start + self.page < len(found)
        return Answer.of({"object": "list", "data": data, "has_more": more})

    def create(self, wanted: dict[str, Any]) -> Answer:
        number = self.new("batch")
        batch = {
            "id": number,
            "object": "batch",
            "status": "validating",
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            **wanted,
        }
        text = self.files[wanted["input_file_id"]][1]
        self.inputs[number] = [json.loads(line) for line in text.splitlines()]
        self.batches[number] = batch
        self.left[number] = self.polls
        return Answer.of(batch)

    def poll(self, batch: dict[str, Any]) -> Answer:
        if batch["status"] not in TERMINAL:
            self.left[batch["id"]] -= 1
            if batch["status"] != "cancelling":
                batch["status"] = "in_progress"
            if self.left[batch["id"]] <= 0:
                self.finish(batch)
        return Answer.of(batch)

    def cancel(self, batch: dict[str, Any]) -> Answer:
        if batch["status"] in TERMINAL:
            return fails(409, None, "it has ended")
        batch["status"] = "cancelling"
        return Answer.of(batch)

    def finish(self, batch: dict[str, Any]) -> None:
        cancelled = batch["status"] == "cancelling"
        status = "cancelled" if cancelled else self.ends(batch)
        faults = self.faults(batch)
        lines = [] if faults else self.lines(batch["id"])
        rows = [self.answer(line) for line in lines]
        batch["status"] = "failed" if faults else status
        batch["errors"] = {"data": faults} if faults else None
        good = [r for r in rows if is_paid(r)]
        bad = [r for r in rows if r is not None and not is_paid(r)]
        self.paid.update(n["body"]["seed"] for n, r in zip(lines, rows, strict=True) if is_paid(r))
        batch["request_counts"] = {
            "total": len(rows),
            "completed": len(good),
            "failed": len(bad),
        }
        output, error = self.edit(_jsonl(good), _jsonl(bad))
        for name, content in (("output_file_id", output), ("error_file_id", error)):
            if content:
                batch[name] = self.new("file")
                self.files[batch[name]] = (name, content)

    def at_once(self, body: dict[str, Any]) -> Answer:
        self.paid[body["seed"]] += 1
        return Answer.of(completion(f"seed {body['seed']}"))


def _jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


@contextlib.contextmanager
def serving_batches() -> Iterator[FakeBatches]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def serve(self) -> None:
            body = self.body()
            url = urlsplit(self.path)
            batches.headers.append({k.lower(): v for k, v in self.headers.items()})
            answer = batches.handle(self.command, url.path, parse_qs(url.query), body)
            with contextlib.suppress(ConnectionError):
                self.reply(answer)

        do_GET = do_POST = do_DELETE = serve

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("transfer-encoding", ""):
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def reply(self, answer: Answer) -> None:
            if answer.cut == -1:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = answer.cut is not None

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was killed is part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    batches = FakeBatches(server.server_address[1])
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield batches
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


HANG_UP = Answer(cut=-1)
