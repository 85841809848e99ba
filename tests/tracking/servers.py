"""A real MLflow server, and a proxy before it that loses, delays or damages what passes."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.tracking.project import migrated_database, private_environment


class Server:
    """A real `mlflow server` process on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        shutil.copyfile(migrated_database(), folder / "server.db")
        flags = {
            "host": "127.0.0.1",
            "port": self.uri.rpartition(":")[2],
            "allowed-hosts": f"127.0.0.1:{self.uri.rpartition(':')[2]}",
            "workers": "1",
            "backend-store-uri": f"sqlite:///{folder}/server.db",
            "artifacts-destination": str(folder / "artifacts"),
        }
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server"]
            + [word for name, value in flags.items() for word in (f"--{name}", value)],
            cwd=folder,
            env={**private_environment(folder), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise TimeoutError("mlflow server did not start")

    def clear(self) -> None:
        """Make room for the next test: no registered model, and no experiment of a name tests use."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        for model in client.search_registered_models():
            client.delete_registered_model(model.name)
        for experiment in client.search_experiments():
            if not experiment.name.startswith(("Default", "past ")):
                client.rename_experiment(experiment.experiment_id, f"past {uuid.uuid4().hex}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()


# What a proxy does with a request: passes it on; passes it on and loses the answer; answers 500
# itself; says 200 and keeps it to itself; says nothing until the client has given up.
PASS, LOSE, FAIL, SWALLOW, HANG = "pass", "lose", "fail", "swallow", "hang"
Rule = Callable[[str, str], str]  # of method and path


def let_pass(method: str, path: str) -> str:
    """The rule that does nothing."""
    return PASS


class Proxy:
    """An HTTP server on a free port before another one; ``rule`` may change at any time."""

    def __init__(self, behind: str) -> None:
        self.rule: Rule = let_pass
        self.seen: list[tuple[str, str]] = []
        proxy, port = self, int(behind.rpartition(":")[2])

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen.append((self.command, self.path))
                what = proxy.rule(self.command, self.path)
                if what == HANG:
                    time.sleep(2)
                    self.close_connection = True
                    return
                if what in (FAIL, SWALLOW):
                    self.answer(500 if what == FAIL else 200, b"{}", "application/json")
                    return
                passed = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                kept = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                passed.request(self.command, self.path, body, kept)
                answer = passed.getresponse()
                read = answer.read()
                passed.close()
                if what == LOSE:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.answer(answer.status, read, answer.getheader("Content-Type") or "text/plain")

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def proxied(behind: str) -> Iterator[Proxy]:
    """Yield a proxy before a server."""
    proxy = Proxy(behind)
    try:
        yield proxy
    finally:
        proxy.stop()
