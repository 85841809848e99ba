"""Faults A30 to A37: whatever happens to process or disk, nothing that was stored is lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from medslm.errors import IntegrityError
from medslm.teacher.journal import HEADER, decode
from medslm.teacher.sharing import repair, verify
from medslm.teacher.store import open_store, read_only
from tests.code_deps import ROOT
from tests.teacher.faulty_store import STEPS, work
from tests.teacher.journals import FILLED, body, fill, keep, key, reply

MODULE = [sys.executable, "-m", "tests.teacher.faulty_store"]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


def lines_of(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    work(folder)
    return (folder / "journal.log").read_bytes()


# How many lines of the undisturbed journal are on the disk after so many steps, the first one
# included. The steps that note a lost attempt and replies whose bodies are there are not durable by
# themselves.
_LINES_AFTER = [1, 3, 5, 7, 8, 8, 10, 11, 12]


@pytest.mark.parametrize(
    ("fault", "call"),
    [
        ("kill-before", "fsync"),
        ("kill-after", "fsync"),
        ("kill-before", "write"),
        ("kill-half-way", "write"),
        ("kill-after", "write"),
    ],
)
def test_A30_a_kill_at_any_write_or_sync_leaves_the_old_state_or_the_new(
    tmp_path, undisturbed, fault, call
):
    loop = run(*MODULE, tmp_path, fault, call)
    kills = int(loop.stdout)
    seen = Counter()

    for nth in range(1, kills + 1):
        folder = tmp_path / str(nth)
        done = len((folder / "done").read_bytes())
        seen[done] += 1
        with open_store(folder) as store:
            found = (folder / "journal.log").read_bytes()
            assert undisturbed.startswith(found)
            assert found.endswith(b"\n")
            assert found.count(b"\n") >= _LINES_AFTER[done]
            again = dict.fromkeys(store)
            for name in "abc":
                store.append([reply(name)])
            assert set(again) <= set(store)
            assert len(store) == 3

    durable = {step for step in range(len(STEPS)) if step not in {2, 4}}
    assert set(seen) >= (durable if call == "fsync" else set(range(len(STEPS))))
    assert (tmp_path / str(kills + 1) / "journal.log").read_bytes() == undisturbed


def test_A30_a_store_that_never_syncs_would_be_found_out(tmp_path):
    """The control: without an fsync there is no moment at which a kill could hit one."""
    code = """
        import os, runpy, types
        from medslm import files
        from medslm.teacher import store
        blind = types.SimpleNamespace(**vars(os))
        blind.fsync = lambda descriptor: None
        store.os = files.os = blind
        runpy.run_module("tests.teacher.faulty_store", run_name="__main__")
    """

    loop = run(*python(code, tmp_path, "kill-before", "fsync"))

    assert (loop.returncode, loop.stdout) == (0, "0\n")


HOLD = """
    import pathlib, sys, time
    from medslm.teacher.store import open_store
    with open_store(pathlib.Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(600)
"""
TRY = """
    import pathlib, sys, time
    from medslm.errors import stage
    from medslm.teacher.store import open_store
    from tests.teacher.journals import reply
    @stage
    def main():
        started = time.perf_counter()
        try:
            with open_store(pathlib.Path(sys.argv[1])) as store:
                store.append([reply("second")])
        finally:
            print(time.perf_counter() - started)
    main()
"""


def test_A32_a_second_process_is_refused_at_once_and_the_holder_named(tmp_path):
    keep(tmp_path, reply("a"))
    before = (tmp_path / "journal.log").read_bytes()

    with subprocess.Popen(python(HOLD, tmp_path), stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        tries = [run(*python(TRY, tmp_path))]
        while float(tries[-1].stdout) >= 1 and len(tries) < 3:  # a busy machine gets three
            tries.append(run(*python(TRY, tmp_path)))
        holder.kill()
    refused = tries[-1]
    free = run(*python(TRY, tmp_path))

    assert refused.returncode == 41
    assert f"process {holder.pid} " in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert float(refused.stdout) < 1
    assert free.returncode == 0
    with read_only(tmp_path) as view:
        assert list(view) == [key("a"), key("second")]
    assert (tmp_path / "journal.log").read_bytes().startswith(before)


def test_A32_an_orphan_of_a_killed_parent_still_holds(tmp_path):
    parent = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
        print(child.pid, child.stdout.readline(), flush=True)
        child.wait()
    """
    orphan = python(HOLD, tmp_path)[1:]

    with subprocess.Popen(python(parent, *orphan), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline().split()[0])
        running.kill()
    try:
        refused = run(*python(TRY, tmp_path))
    finally:
        os.kill(pid, 9)

    assert refused.returncode == 41
    assert f"process {pid} " in refused.stderr


@pytest.mark.parametrize("locked", [True, False])
def test_A32_without_the_lock_two_processes_would_store_a_reply_twice(tmp_path, locked):
    code = """
        import contextlib, pathlib, sys
        from medslm.errors import LockHeld
        from medslm.teacher import store
        from tests.teacher.journals import reply
        if sys.argv[2] == "False":
            store.lock = lambda path, what: contextlib.nullcontext()
            pathlib.Path(sys.argv[1]).mkdir(exist_ok=True)
        def both(store):
            print("open", flush=True)
            sys.stdin.readline()
            for name in map(str, range(20)):
                store.append([reply(name)])
        try:
            with store.open_store(pathlib.Path(sys.argv[1])) as opened:
                both(opened)
        except LockHeld:
            print("refused", flush=True)
    """
    folder = tmp_path / "replies"
    writers = [
        subprocess.Popen(
            python(code, folder, locked),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    said = sorted(writer.stdout.readline() for writer in writers)
    for writer in writers:
        writer.communicate("go\n")

    found = Counter(decode(line).key for line in lines_of(folder / "journal.log")[1:])
    assert len(found) == 20
    assert said == (["open\n", "refused\n"] if locked else ["open\n"] * 2)
    assert set(found.values()) == ({1} if locked else {2})


def test_A33_a_journal_cut_anywhere_keeps_its_longest_whole_prefix(tmp_path):
    whole = fill(tmp_path / "whole").read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = [len(b"".join(lines[:n])) for n in range(1, len(lines) + 1)]
    states = []
    for n in range(1, len(lines) + 1):
        folder = tmp_path / f"prefix-{n}"
        folder.mkdir()
        (folder / "journal.log").write_bytes(b"".join(lines[:n]))
        with read_only(folder) as view:
            states.append(state(view))
    journal = tmp_path / "cut" / "journal.log"
    journal.parent.mkdir()

    for cut in range(len(whole) + 1):
        journal.write_bytes(whole[:cut])
        kept = max(1, sum(end <= cut for end in ends))
        with open_store(journal.parent) as store:
            assert journal.read_bytes() == b"".join(lines[:kept])
            assert state(store) == states[kept - 1]
            store.append([reply("z")])
        assert lines_of(journal)[:-1] == lines[:kept]
    assert len({str(one) for one in states}) == len(lines) - 1  # open or lost: it counts the same


def state(view):
    return (
        {name: (view[name], view.paid(name)) for name in view},
        [view.bodies(key(name)) for name in "abcd"],
        [view.account([key(name)]) for name in "abcd"],
        view.spent_micros(),
        view.notes(),
        len(view),
    )


def test_A34_every_flipped_bit_is_noticed_on_its_line(tmp_path):
    journal = fill(tmp_path)
    whole = journal.read_bytes()
    noticed = 0

    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        journal.write_bytes(flipped)
        number = whole.count(b"\n", 0, place) + 1
        if flipped[place] == ord("\n"):  # one line became two
            assert [number, number + 1] == [d.number for d in verify(tmp_path).damaged]
        else:
            assert [number] == [damage.number for damage in verify(tmp_path).damaged]
        with (
            pytest.raises(IntegrityError, match=rf"journal\.log:{number}: .*damaged"),
            read_only(tmp_path),
        ):
            pass
        noticed += 1

    assert noticed == len(whole) > 1000
    journal.write_bytes(whole)
    assert verify(tmp_path).damaged == []


@pytest.mark.parametrize("number", range(1, len(FILLED) + 2))
def test_A34_a_damaged_line_stops_the_store_until_it_is_moved_away(tmp_path, number):
    journal = fill(tmp_path)
    lines = lines_of(journal)
    damaged = bytearray(lines[number - 1])
    damaged[len(damaged) // 2] ^= 1
    journal.write_bytes(b"".join([*lines[: number - 1], damaged, *lines[number:]]))

    with pytest.raises(IntegrityError, match=rf":{number}: ") as stopped, open_store(tmp_path):
        pass
    done = repair(tmp_path, retry_failed=False)

    assert stopped.value.exit_code == 11
    assert done == (1, tmp_path / "journal.damaged-1", 0)
    assert done.aside is not None
    assert done.aside.read_bytes() == bytes(damaged)
    rest = lines if number == 1 else [*lines[: number - 1], *lines[number:]]
    assert lines_of(journal) == rest
    replied = [name for n, (kind, name) in enumerate(FILLED, 2) if kind == "reply" and n != number]
    with open_store(tmp_path) as store:
        assert set(store) == {key(name) for name in replied}


def test_A34_a_damaged_line_end_loses_nothing(tmp_path):
    journal = fill(tmp_path)
    whole = journal.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]

    for one, other in zip(ends, [ends[0], *ends[:-2], ends[0]], strict=True):
        damaged = bytearray(whole)
        damaged[one] ^= 1
        damaged[other] ^= 4  # twice the same, or this and the line before
        journal.write_bytes(damaged)
        repair(tmp_path, retry_failed=False)
        assert journal.read_bytes() == whole

    assert len(ends) == len(FILLED) + 1


def test_A34_only_the_row_of_a_damaged_reply_is_replayed_and_not_paid_again(tmp_path):
    journal = fill(tmp_path)
    journal.write_bytes(journal.read_bytes().replace(b"content of b", b"content of B"))

    repair(tmp_path, retry_failed=False)

    with open_store(tmp_path) as store:
        assert list(store) == [key("a"), key("c")]
        assert store.bodies(key("b")) == [body("b")]


def limited(limit: str, soft: int) -> str:
    """Return code that appends for ever under a limit of this process."""
    return f"""
        import pathlib, resource, sys
        from medslm.errors import stage
        from medslm.teacher.store import open_store
        from tests.teacher.journals import reply
        @stage
        def main():
            with open_store(pathlib.Path(sys.argv[1])) as store:
                hard = resource.getrlimit(resource.{limit})[1]
                resource.setrlimit(resource.{limit}, ({soft}, hard))
                for number in range(10_000):
                    store.append([reply(str(number))])
                    print(number, flush=True)
        main()
    """


def assert_whole_prefix(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    """Every reply that was acknowledged is there, in order, and writing goes on."""
    acknowledged = [key(name) for name in done.stdout.split()]
    assert len(acknowledged) > 1
    with open_store(folder) as store:
        assert list(store)[: len(acknowledged)] == acknowledged
        assert len(store) <= len(acknowledged) + 1
        store.append([reply("afterwards")])
    assert verify(folder).damaged == []


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, what: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error[")]
    assert done.returncode == code
    assert lines == done.stderr.splitlines()[-1:]
    assert what in lines[0]
    assert "Traceback" not in done.stderr


def test_A35_a_full_disk_stops_with_everything_before_it_intact(tmp_path):
    """A tmpfs of 64 kB in a mount namespace of its own; its files are copied out at the end."""
    inside, out = tmp_path / "inside", tmp_path / "out"
    inside.mkdir()
    script = (
        'mount -t tmpfs -o size=64k none "$0" || exit 99; shift 0; "$@"; code=$?; '
        'cp -r "$0/store" "$OUT"; exit $code'
    )
    unshare = shutil.which("unshare")
    if unshare is None or run(unshare, "-rm", "true").returncode:
        pytest.skip("no mount namespace may be made here; the limit on file sizes stands in")
    done = run(
        *["env", f"OUT={out}", unshare, "-rm", "sh", "-c", script, inside],
        *python(limited("RLIMIT_CPU", 600), inside / "store"),
    )
    if done.returncode == 99:
        pytest.skip("no tmpfs may be mounted here; the limit on file sizes stands in")

    assert done.returncode == 40
    assert_one_line(done, 40, "No space left on device")
    assert_whole_prefix(out, done)


def test_A35_A37_a_limit_on_file_sizes_stops_with_everything_before_it_intact(tmp_path):
    done = run(*python(limited("RLIMIT_FSIZE", 5000), tmp_path))

    assert done.returncode == 40
    assert_one_line(done, 40, "File too large")
    assert_whole_prefix(tmp_path, done)


# The first write is the journal's first line, the first two syncs are those of the opening.
@pytest.mark.parametrize(
    ("fault", "call", "nth", "steps_done"),
    [
        ("EIO", "fsync", 1, 0),
        ("EIO", "fsync", 3, 0),
        ("EIO", "fsync", 5, 3),
        ("EIO", "write", 1, 0),
        ("EIO", "write", 4, 2),
        ("ENOSPC", "write", 4, 2),
        ("ENOSPC", "write", 6, 4),
        ("short-then-EIO", "write", 4, 2),
    ],
)
def test_A36_a_failed_write_or_sync_is_never_tried_again(
    tmp_path, undisturbed, fault, call, nth, steps_done
):
    done = run(*MODULE, tmp_path, fault, call, nth)

    text = os.strerror({"EIO": 5, "ENOSPC": 28}.get(fault, 5))
    assert_one_line(done, 40, text)
    calls = int(done.stdout)
    assert calls == nth + (fault == "short-then-EIO")
    opened = nth > (2 if call == "fsync" else 1)
    refused = b"r" * len(STEPS) if opened else b""
    assert (tmp_path / "done").read_bytes() == b"." * steps_done + refused
    with open_store(tmp_path) as store:
        found = (tmp_path / "journal.log").read_bytes()
        assert undisturbed.startswith(found)
        assert found.count(b"\n") >= _LINES_AFTER[steps_done]
        store.append([reply("z")])
        assert store[key("z")] == reply("z")


@pytest.mark.parametrize("nth", range(1, 10))
def test_A36_a_short_write_is_carried_on(tmp_path, undisturbed, nth):
    done = run(*MODULE, tmp_path, "short", "write", nth)

    assert done.returncode == 0
    assert (tmp_path / "done").read_bytes() == b"." * len(STEPS)
    assert (tmp_path / "journal.log").read_bytes() == undisturbed


def test_A36_a_sync_that_fails_at_the_end_is_said(tmp_path):
    code = """
        import os, pathlib, sys
        from medslm.errors import stage
        from medslm.teacher.store import open_store
        from tests.teacher.faulty_store import Faulty
        from tests.teacher.journals import key
        @stage
        def main():
            with open_store(pathlib.Path(sys.argv[1])) as store:
                store.lost(key("a"), "timeout")
                os.fsync = Faulty(os.fsync, "EIO", 1)
        main()
    """
    done = run(*python(code, tmp_path))

    assert done.returncode == 40
    assert_one_line(done, 40, "Input/output error")


OPEN = """
    import os, pathlib, resource, sys
    from medslm.errors import stage
    from medslm.teacher.store import open_store
    from tests.teacher.journals import reply
    @stage
    def main():
        if sys.argv[2] == "nobody" and os.geteuid() == 0:
            os.seteuid(65534)
        elif sys.argv[2] == "files":
            used = len(os.listdir("/proc/self/fd")) - 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + int(sys.argv[3]), 1 << 10))
        with open_store(pathlib.Path(sys.argv[1])) as store:
            store.append([reply("b")])
    main()
"""


def test_A37_a_read_only_folder_is_said(tmp_path):
    with tempfile.TemporaryDirectory() as home:  # pytest's own are closed to other users
        folder = Path(home) / "local"
        journal = keep(folder, reply("a"))
        before = journal.read_bytes()
        Path(home).chmod(0o755)
        for path in (folder / "lock", journal):
            path.chmod(0o444)
        folder.chmod(0o555)

        refused = run(*python(OPEN, folder, "nobody"))
        absent = run(*python(OPEN, folder / "sub", "nobody"))
        with read_only(folder) as view:
            assert list(view) == [key("a")]

        assert_one_line(refused, 40, "Permission denied")
        assert_one_line(absent, 40, "Permission denied")
        assert journal.read_bytes() == before
        folder.chmod(0o755)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_A37_too_many_open_files_are_said(tmp_path, left):
    journal = keep(tmp_path, reply("a"))
    before = journal.read_bytes()

    refused = run(*python(OPEN, tmp_path, "files", left))
    enough = run(*python(OPEN, tmp_path, "files", 3))

    assert_one_line(refused, 40, "Too many open files")
    assert enough.returncode == 0
    assert journal.read_bytes().startswith(before)
    assert len(HEADER) < len(before) < len(journal.read_bytes())
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 3
