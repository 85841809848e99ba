"""Whatever the process beside training does, training ends when it is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medslm.student import follower
from medslm.student.follower import followed


def python(code):
    return [sys.executable, "-c", code]


STOPPED = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
GONE = "raise SystemExit(3)"


@pytest.mark.parametrize("code", [STOPPED, DEAF, GONE], ids=["stopped", "deaf", "gone"])
def test_a_follower_that_hangs_costs_one_percent_and_is_gone_afterwards(code, tmp_path):
    mark = tmp_path / "pid"
    begin = f"import os, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); "

    with followed(python(begin + code)):
        while not mark.exists() or not mark.read_text():
            time.sleep(0.01)
        ended = time.monotonic()
    waited = time.monotonic() - ended

    assert waited < 0.5
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_a_follower_has_one_percent_of_the_time_for_its_last_words(tmp_path, monkeypatch):
    """Control: with more patience the same follower is not killed, and says them."""
    said = tmp_path / "said"
    code = (
        "import sys, time, pathlib; sys.stdin.read(); time.sleep(0.3); "
        f"pathlib.Path({str(said)!r}).write_text('last')"
    )

    def follow():
        with followed(python(code)):
            time.sleep(0.5)
        return said.exists()

    assert not follow()
    monkeypatch.setattr(follower, "PATIENCE", 20)
    assert follow()


def test_a_failure_of_training_comes_through_and_leaves_no_follower():
    with pytest.raises(ZeroDivisionError), followed(python(DEAF)):
        raise ZeroDivisionError


def test_what_cannot_be_started_is_a_warning(caplog):
    with followed(["/nowhere/python"]):
        done = True

    assert done
    assert "training is not shown" in caplog.text


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_no_command_is_no_process():
    before = children()  # of other tests in this process
    with followed(None):
        during = children()

    assert during == before


KILLED = """
import sys, time
from medslm.student.follower import followed

code = "import sys, pathlib; sys.stdin.read(); pathlib.Path(sys.argv[1]).write_text('heard')"
with followed([sys.executable, "-c", code, sys.argv[1]]):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_follower_hears_of_a_kill_of_training(tmp_path):
    heard = tmp_path / "heard"
    with subprocess.Popen(
        [*python(KILLED), str(heard)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10

    while not heard.exists() and time.monotonic() < until:
        time.sleep(0.02)

    assert heard.exists()
