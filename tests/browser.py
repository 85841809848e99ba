"""A headless Chromium for the tests of pages, driven over its DevTools pipe: no port, no driver, no package.

The fixture `browser` of tests/conftest.py starts one per session and skips where none is installed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # its own needs rights that a container rarely gives
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--password-store=basic",
)
ANSWERS_WITHIN_S = 60.0  # a busy machine is no failure
# What Chromium wants to know of a key that is not a letter: its code and the text it types.
KEYS = {
    "Enter": (13, "\r"),
    "Tab": (9, ""),
    "Escape": (27, ""),
    "ArrowUp": (38, ""),
    "ArrowDown": (40, ""),
    "ArrowLeft": (37, ""),
    "ArrowRight": (39, ""),
    " ": (32, " "),
}


def find() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A running Chromium; one message at a time over a pair of pipes."""

    def __init__(self, program: str, folder: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Chromium reads file 3 and writes file 4; bash puts them there in a process of its own
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                script,
                "bash",
                program,
                *FLAGS,
                f"--user-data-dir={folder / 'profile'}",
            ],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._sent = 0
        self._events: list[dict[str, Any]] = []
        self.version: str = self.call("Browser.getVersion")["product"]

    def close(self) -> None:
        """End the browser and its children."""
        with_children = os.getpgid(self._process.pid)
        os.close(self._out)
        os.close(self._in)
        os.killpg(with_children, signal.SIGKILL)
        self._process.wait()

    @contextmanager
    def open(
        self,
        page: Path,
        *,
        width: int = 1280,
        height: int = 900,
        scheme: Literal["light", "dark"] = "light",
    ) -> Iterator[Tab]:
        """Show a file in a window of that size, loaded; close it at the end."""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        tab = Tab(self, attached["sessionId"])
        try:
            tab.prepare(width, height, scheme)
            tab.load(page)
            yield tab
        finally:
            self.call("Target.closeTarget", targetId=target)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; AssertionError with what Chromium said."""
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._out, rest) :]
        until = time.monotonic() + ANSWERS_WITHIN_S
        while (answer := self._read(until)).get("id") != self._sent:
            self._events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def events(self, session: str) -> list[dict[str, Any]]:
        """Return what a tab reported so far, and all that is waiting."""
        while b"\0" in self._buffer or select.select([self._in], [], [], 0)[0]:
            self._events.append(self._read(time.monotonic() + ANSWERS_WITHIN_S))
        return [event for event in self._events if event.get("sessionId") == session]

    def _read(self, until: float) -> dict[str, Any]:
        parts = [self._buffer]
        while b"\0" not in parts[-1]:
            left = max(0.0, until - time.monotonic())
            assert select.select([self._in], [], [], left)[0], "Chromium does not answer"
            block = os.read(self._in, 1 << 20)
            assert block, "Chromium ended"
            parts.append(block)
        message, _, self._buffer = b"".join(parts).partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Tab:
    """A page in a browser: evaluate, press, type, click, look."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a DevTools command to this tab."""
        return self._browser.call(method, self._session, **params)

    def prepare(self, width: int, height: int, scheme: str) -> None:
        """Set size and colours, and listen to what goes wrong."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def load(self, page: Path) -> None:
        """Show a file and wait until it has loaded."""
        before = len(self._loads())
        self.call("Page.navigate", url=page.absolute().as_uri())
        until = time.monotonic() + ANSWERS_WITHIN_S
        while len(self._loads()) == before:
            assert time.monotonic() < until, f"{page} does not load"
            time.sleep(0.01)

    def _loads(self) -> list[dict[str, Any]]:
        events = self._browser.events(self._session)
        return [event for event in events if event["method"] == "Page.loadEventFired"]

    def evaluate(self, expression: str) -> Any:
        """Return a JavaScript expression's value as JSON would carry it; awaits promises."""
        done = self.call(
            "Runtime.evaluate",
            **{"expression": expression, "returnByValue": True, "awaitPromise": True},
        )
        assert "exceptionDetails" not in done, f"{expression}: {done['exceptionDetails']}"
        return done["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        until = time.monotonic() + ANSWERS_WITHIN_S
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """Return the text a reader sees in the first element that matches."""
        found: str = self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    def count(self, selector: str) -> int:
        """Return how many elements match."""
        found: int = self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")
        return found

    def press(self, *keys: str) -> None:
        """Press keys one after the other: letters, or names such as ArrowDown."""
        for key in keys:
            code, text = KEYS.get(key, (ord(key.upper()) if len(key) == 1 else 0, key))
            event = {"key": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code}
            kind = "keyDown" if text else "rawKeyDown"
            self.call("Input.dispatchKeyEvent", type=kind, text=text, **event)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Put text into the focused field, as a paste would."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click into the middle of the first element that matches, whatever lies there."""
        found = json.dumps(selector)
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({found}); e.scrollIntoView({{block: 'nearest'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        event = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **event)

    def choose(self, selector: str, value: str) -> None:
        """Set a field or a list to a value and tell the page, as a user's choice would."""
        assert (
            self.evaluate(
                f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
                f" e.value = {json.dumps(value)}; for (const n of ['input', 'change'])"
                " e.dispatchEvent(new Event(n, {bubbles: true})); return e.value; })()"
            )
            == value
        ), f"{selector} has no {value!r}"

    def save_downloads_in(self, folder: Path) -> None:
        """Let the page save files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        where = {"behavior": "allow", "downloadPath": str(folder.absolute())}
        self._browser.call("Browser.setDownloadBehavior", **where)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as PNG."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def width(self) -> int:
        """Return how wide the page is; more than the window means that it scrolls sideways."""
        found: int = self.evaluate("document.documentElement.scrollWidth")
        return found

    def errors(self) -> list[str]:
        """Return what the page's console shows as an error: exceptions, refused loads, policies."""
        found = []
        for event in self._browser.events(self._session):
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(str(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Return the addresses the page asked for, other than its own file and what it holds itself."""
        sent = [
            event["params"]["request"]["url"]
            for event in self._browser.events(self._session)
            if event["method"] == "Network.requestWillBeSent"
        ]
        own = [url for url in sent if url.startswith(("data:", "blob:"))]
        return [url for url in sent[1:] if url not in own]
