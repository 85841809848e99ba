"""A process that runs `ask` in children and kills them: ``python -m tests.teacher.killing URL FOLDER``.

Everything is imported once, then each child is a fork, so that two hundred kills take half a minute.
Orders come as JSON lines on stdin, one answer line each on stdout:
``{"job": NAME, "after_s": S | null, "locked": BOOL, "orphan": BOOL}``. With ``after_s`` null the child
runs to its end; with ``orphan`` it is left alone and its PID is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2  # noqa: F401  # before the fork, or every child pays for it
import openai
import openai.resources.chat.completions  # noqa: F401

from medslm.errors import MedslmError
from medslm.teacher import store as store_module
from medslm.teacher.asking import Plan, carry_out
from medslm.teacher.endpoint import Endpoint, OpenAIParams
from tests.factories import question
from tests.teacher.asked import OPENAI, requests

QUESTIONS = 40
CONCURRENCY = 4


def plan(url: str) -> Plan:
    knobs = {"base_url": url, "key_env": None, "concurrency": CONCURRENCY, "timeout_s": 10}
    params = OpenAIParams(**{**OPENAI, **knobs})
    wanted = requests([question(str(n)) for n in range(1, QUESTIONS + 1)], per_question=1)
    return Plan(Endpoint(params, "api", {}), "api", wanted, 0.0)


@contextlib.contextmanager
def unlocked(path: Path, _what: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield


def child(work: Plan, folder: Path, *, locked: bool) -> int:
    if not locked:
        store_module.lock = unlocked  # type: ignore[attr-defined]
    try:
        carry_out(work, work=folder, out=folder / "out.jsonl", metrics=folder / "spend.json")
    except MedslmError as exc:
        return exc.exit_code
    return 0


def main() -> None:
    url, root = sys.argv[1], Path(sys.argv[2])
    work = plan(url)
    for line in sys.stdin:
        order = json.loads(line)
        folder = root / order["job"]
        folder.mkdir(exist_ok=True)
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            os._exit(child(work, folder, locked=order["locked"]))
        if order["orphan"]:
            answer = {"pid": pid}
        else:
            if order["after_s"] is not None:
                time.sleep(order["after_s"])
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            answer = {"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
