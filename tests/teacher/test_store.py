from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from medslm.errors import IntegrityError, StorageError
from medslm.teacher.journal import HEADER, Account, Paid, decode
from medslm.teacher.replies import Journal
from medslm.teacher.store import open_store, read_only
from tests.teacher.faulty_store import Faulty
from tests.teacher.journals import body, fill, intent, keep, key, reply

NOTHING = Account(0, 0, 0, 0)


def test_replies_are_there_after_reopening(tmp_path):
    keep(tmp_path, reply("a"), reply("b", content=None, finish_reason="rejected"))

    with open_store(tmp_path) as store:
        assert len(store) == 2
        assert list(store) == [key("a"), key("b")]
        assert key("a") in store
        assert store[key("a")] == reply("a")
        assert store[key("b")].finish_reason == "rejected"
        assert key("c") not in store
        with pytest.raises(KeyError):
            store[key("c")]


def test_a_store_is_what_teachers_write_down_in(tmp_path):
    with open_store(tmp_path) as store:
        as_journal: Journal = store

        assert as_journal.spent_micros() == 0


def test_a_second_reply_to_a_key_is_not_kept(tmp_path):
    twice = keep(tmp_path / "twice", reply("a"), reply("a", content="another"))
    with open_store(tmp_path / "at-once") as store:
        store.append([reply("a"), reply("a", content="another"), reply("b")])
        assert store[key("a")] == reply("a")
        assert len(store) == 2
    once = keep(tmp_path / "once", reply("a"))

    assert twice.read_bytes() == once.read_bytes()
    assert (tmp_path / "at-once" / "journal.log").read_bytes().count(b" reply ") == 2


def test_a_new_journal_is_its_first_line_and_nothing_writes_nothing(tmp_path, monkeypatch):
    calls: list[str] = []
    with open_store(tmp_path) as store:
        for name in ("write", "fsync"):
            monkeypatch.setattr(os, name, counting(calls, name, getattr(os, name)))
        store.append([])
        store.sending([])
        store.received([])
        store.forget([])

    assert calls == []
    assert (tmp_path / "journal.log").read_bytes() == HEADER
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.log", "lock"]


def test_a_group_is_one_write_and_one_sync(tmp_path, monkeypatch):
    calls: list[str] = []
    with open_store(tmp_path) as store:
        for name in ("write", "fsync"):
            monkeypatch.setattr(os, name, counting(calls, name, getattr(os, name)))
        store.append([reply(name) for name in "abc"])
        assert calls == ["write", "fsync"]

        store.void(key("a"), "HTTP 503")
        store.lost(key("a"), "timeout")
        assert calls == ["write", "fsync", "write", "write"]
        store.sending([intent("a"), intent("b")])
        store.received([body("a"), body("b")])
        store.note("batch", 1)
        assert calls[4:] == ["write", "fsync"] * 3

        store.lost(key("b"), "timeout")
        del calls[:]
    assert calls == ["fsync"]  # what `lost` wrote is not left to luck


def test_a_reply_is_synced_at_once_unless_its_body_was(tmp_path, monkeypatch):
    calls: list[str] = []
    with open_store(tmp_path) as store:
        store.received([body("a")])
        monkeypatch.setattr(os, "fsync", counting(calls, "fsync", os.fsync))

        store.append([reply("a")])
        assert calls == []  # it can be read from its body again
        store.append([reply("b")])
        assert calls == ["fsync"]
        store.received([body("c")])
        del calls[:]
        store.append([reply("c"), reply("d")])
        assert calls == ["fsync"]  # nothing but this line knows d
    assert calls == ["fsync"]


def test_bodies_may_wait_for_the_next_sending_or_sync(tmp_path, monkeypatch):
    calls: list[str] = []
    with open_store(tmp_path) as store:
        for name in ("write", "fsync"):
            monkeypatch.setattr(os, name, counting(calls, name, getattr(os, name)))
        store.received([body("a")], durable=False)
        assert calls == ["write"]
        assert store.bodies(key("a")) == [body("a")]
        store.sending([intent("b")])
        store.sync()
        assert calls == ["write", "write", "fsync"]

        store.received([body("b")], durable=False)
        store.sync()
        store.sync()
        assert calls[3:] == ["write", "fsync"]
        store.received([body("c")], durable=False)
        store.append([reply("c")])
        del calls[:]
    assert calls == ["fsync"]


def test_opening_syncs_what_it_changed_and_the_folder_that_names_it(tmp_path, monkeypatch):
    """Without these a power cut could take the journal away under what was written to it."""
    folder, journal = tmp_path / "local", tmp_path / "local" / "journal.log"
    calls: list[tuple[str, str]] = []
    paths: dict[int, str] = {}
    for name in ("ftruncate", "write", "fsync"):
        monkeypatch.setattr(os, name, noting_whose(calls, name, getattr(os, name), paths))
    folder.mkdir()
    (folder / "lock").touch()
    paths |= {folder.stat().st_ino: "folder"}
    journal.touch()
    paths |= {journal.stat().st_ino: "journal"}

    with open_store(folder):
        first, calls[:] = list(calls), []
    journal.write_bytes(HEADER + b"half a li")
    with open_store(folder):
        torn = list(calls)

    assert [call for call in first if call[0] != "ftruncate"] == [
        *[("write", "journal"), ("fsync", "journal"), ("fsync", "folder")]
    ]
    assert torn == [("ftruncate", "journal"), ("fsync", "journal"), ("fsync", "folder")]
    assert calls == torn  # and nothing more at the end, for nothing was written


def noting_whose(calls: list[tuple[str, str]], name: str, real: Any, paths: dict[int, str]) -> Any:
    def call(descriptor: int, *args: Any) -> Any:
        whose = paths.get(os.fstat(descriptor).st_ino)
        if whose is not None:
            calls.append((name, whose))
        return real(descriptor, *args)

    return call


def test_lines_say_what_they_cost_and_why(tmp_path):
    """Whoever reads the file in another way finds the same; what costs nothing says 0."""
    with open_store(tmp_path) as store:
        store.sending([intent("a", 10), intent("b", 20)])
        store.received([body("a", 7)])
        store.void(key("c"), "HTTP 503")
        store.lost(key("b"), "timeout")
        store.append([reply("a")])
        store.note("batch", 1)
        store.forget([key("a")])
    lines = (tmp_path / "journal.log").read_bytes().splitlines(keepends=True)[1:]

    assert [decode(line)[2] for line in lines] == [10, 20, 7, 0, 20, 0, 0, 0]
    assert [decode(lines[n]).json for n in (0, 3, 4, 7)] == [
        *[b"{}", b'{"why": "HTTP 503"}', b'{"why": "timeout"}', b"{}"]
    ]
    assert decode(lines[6])[:2] == ("note", key("batch"))


def test_an_ordinary_line_is_read_at_once_and_a_long_one_in_doubling_steps(tmp_path, monkeypatch):
    lengths: list[int] = []
    real = os.pread
    with open_store(tmp_path) as store:
        store.append([reply("a")])
        store.received([body("b", text="x" * 60_000)])
        monkeypatch.setattr(os, "pread", lambda *args: lengths.append(args[1]) or real(*args))
        store[key("a")]
        assert lengths == [1 << 14]
        store.bodies(key("b"))
    assert lengths[1:] == [1 << 14, 1 << 15, 1 << 16]


def test_others_may_do_with_a_journal_what_the_umask_lets_them(tmp_path):
    before = os.umask(0)
    try:
        journal = keep(tmp_path, reply("a"))
    finally:
        os.umask(before)

    assert journal.stat().st_mode & 0o777 == 0o666


def test_a_store_with_nothing_unsynced_is_not_synced_again(tmp_path, monkeypatch):
    calls: list[str] = []
    with open_store(tmp_path) as store:
        store.lost(key("a"), "timeout")
        store.append([reply("a")])
        monkeypatch.setattr(os, "fsync", counting(calls, "fsync", os.fsync))

    assert calls == []


def counting(calls: list[str], name: str, real: Any) -> Any:
    def call(*args: Any) -> Any:
        calls.append(name)
        return real(*args)

    return call


def test_bodies_come_back_whole_and_oldest_first(tmp_path):
    long = body("a", text="ü\n\x00\ud800" * 20_000, request_id=None)
    with open_store(tmp_path) as store:
        store.received([body("b"), long])
        store.received([body("a", 3, structured=True)])
        assert store.bodies(key("a")) == [long, body("a", 3, structured=True)]

    with open_store(tmp_path) as store:
        assert store.bodies(key("a")) == [long, body("a", 3, structured=True)]
        assert store.bodies(key("b")) == [body("b")]
        assert store.bodies(key("c")) == []


@pytest.mark.parametrize("extra", range(-2, 3))
def test_a_line_is_read_whatever_its_length(tmp_path, extra):
    with open_store(tmp_path) as store:
        store.received([body("a", text="")])
    empty = len((tmp_path / "journal.log").read_bytes()) - len(HEADER)

    with open_store(tmp_path / "long") as store:
        for size in (1 << 14, 1 << 15):
            long = body(str(size), text="x" * (size - empty + extra))
            store.received([long])
            assert store.bodies(key(str(size))) == [long]


def test_the_latest_note_of_each_name_is_there_after_reopening(tmp_path):
    with open_store(tmp_path) as store:
        store.note("batch", {"id": "one"})
        store.note("größe", [1, None])
        store.note("batch", {"id": "two"})
        assert store.notes() == {"batch": {"id": "two"}, "größe": [1, None]}

    with open_store(tmp_path) as store:
        assert store.notes() == {"batch": {"id": "two"}, "größe": [1, None]}
        assert len(store) == 0


def test_what_is_in_flight_is_not_spent_until_a_run_ends_with_it(tmp_path, caplog):
    with open_store(tmp_path) as store:
        store.sending([intent("a", 10), intent("b", 20), intent("c", 40), intent("d", 80)])
        assert store.spent_micros() == 0
        assert store.account([key("a"), key("b")]) == Account(0, 0, 2, 0)

        store.received([body("a", 7)])
        store.void(key("b"), "HTTP 503")
        store.lost(key("c"), "timeout")
        assert store.spent_micros() == 7 + 40
        assert store.account(map(key, "abcd")) == Account(7, 40, 4, 1)
    assert not caplog.records

    with open_store(tmp_path) as store:
        assert store.spent_micros() == 7 + 40 + 80
        assert store.account([key("d")]) == Account(0, 80, 1, 1)
    assert "journal.log: 1 requests were in flight when a run ended" in caplog.text
    assert "$0.0001" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("end", "wanted"),
    [("received", Account(7, 0, 1, 0)), ("void", NOTHING), ("lost", Account(0, 10, 1, 1))],
)
def test_an_attempt_of_an_earlier_run_may_still_end(tmp_path, end, wanted):
    """A batch is sent by one run and collected by another."""
    with open_store(tmp_path) as store:
        store.sending([intent("a", 10)])

    with open_store(tmp_path) as store:
        assert store.spent_micros() == 10
        if end == "received":
            store.received([body("a", 7)])
        else:
            getattr(store, end)(key("a"), "why")
        assert store.account([key("a")]) == wanted._replace(attempts=1)
        assert store.spent_micros() == wanted.micros + wanted.lost_micros

    with open_store(tmp_path) as store:
        assert store.account([key("a")]) == wanted._replace(attempts=1)


def test_what_was_in_flight_is_told_to_a_hundredth_of_a_cent(tmp_path, caplog):
    with open_store(tmp_path) as store:
        store.sending([intent("a", 123_456_789), intent("b", 1)])
    with open_store(tmp_path):
        pass

    assert "2 requests were in flight" in caplog.text
    assert "count as $123.4568" in caplog.text


def test_a_killed_attempt_stays_lost_when_its_key_is_sent_again_and_counts_once(tmp_path, caplog):
    with open_store(tmp_path) as store:
        store.sending([intent("a", 10)])
    with open_store(tmp_path) as store:
        store.sending([intent("a", 20)])
        assert store.spent_micros() == 10
        assert store.account([key("a")]) == Account(0, 10, 2, 1)
        store.received([body("a", 7)])
        assert store.spent_micros() == 17

    caplog.clear()
    for _ in range(2):
        with open_store(tmp_path) as store:
            assert store.spent_micros() == 17
            assert store.account([key("a")]) == Account(7, 10, 2, 1)
    assert not caplog.records


def test_an_end_without_an_attempt_costs_what_it_says(tmp_path):
    with open_store(tmp_path) as store:
        store.lost(key("a"), "timeout")
        store.void(key("b"), "HTTP 503")
        store.received([body("c", 7)])

        assert store.account(map(key, "abc")) == Account(7, 0, 0, 1)


def test_what_is_forgotten_is_asked_again_and_still_paid_for(tmp_path):
    with open_store(tmp_path) as store:
        store.sending([intent("a")])
        store.received([body("a", 7)])
        store.append([reply("a", finish_reason="length"), reply("b")])
        store.forget([key("a")])
        assert (key("a") in store, key("b") in store) == (False, True)

    with open_store(tmp_path) as store:
        assert (key("a") in store, len(store), store.bodies(key("a"))) == (False, 1, [])
        assert store.account([key("a")]) == Account(7, 0, 1, 0)
        store.received([body("a", 5)])
        store.append([reply("a")])
        assert store[key("a")] == reply("a")
        assert store.bodies(key("a")) == [body("a", 5)]
        assert store.spent_micros() == 12


def test_an_adopted_reply_costs_nothing_here_and_says_what_it_did(tmp_path):
    with open_store(tmp_path) as store:
        store.received([body("a", 7), body("a", 5)])
        store.append([reply("a")])
        store.adopt([Paid(reply("a", content="another"), 99), Paid(reply("b"), 30)])

    with open_store(tmp_path) as store:
        assert store.paid(key("a")) == Paid(reply("a"), 12)
        assert store.paid(key("b")) == Paid(reply("b"), 30)
        assert store.spent_micros() == 12


def test_a_line_that_is_damaged_after_the_opening_is_not_handed_out(tmp_path):
    journal = keep(tmp_path / "local", reply("a"), reply("b"))
    sound = journal.read_bytes()

    with open_store(tmp_path / "local") as store:
        journal.write_bytes(sound.replace(b"content of b", b"content of B"))
        assert store[key("a")] == reply("a")
        with pytest.raises(IntegrityError, match=r"journal\.log:3: .*checksum"):
            store[key("b")]
        journal.write_bytes(sound[:-20])
        with pytest.raises(IntegrityError, match=r"journal\.log:3: "):
            store[key("b")]
        journal.write_bytes(sound)
        assert store[key("b")] == reply("b")


def test_a_torn_end_is_dropped_and_nothing_is_glued_to_it(tmp_path, caplog):
    journal = keep(tmp_path, reply("a"))
    whole = journal.read_bytes()
    journal.write_bytes(whole + b"\0" * 100)

    with open_store(tmp_path) as store:
        assert len(store) == 1
        store.append([reply("b")])

    assert "journal.log: dropped 100 bytes that were not fully written" in caplog.text
    assert journal.read_bytes() == keep(tmp_path / "both", reply("a"), reply("b")).read_bytes()


def test_damage_in_the_middle_names_the_line_and_changes_nothing(tmp_path):
    journal = keep(tmp_path, reply("a"), reply("b"), reply("c"))
    damaged = journal.read_bytes().replace(b"content of b", b"content of B")
    journal.write_bytes(damaged)

    for opened in (open_store, read_only):
        with pytest.raises(IntegrityError, match=r"journal\.log:3: .*checksum"), opened(tmp_path):
            pass
    assert journal.read_bytes() == damaged


def test_a_first_line_that_was_cut_is_written_anew(tmp_path):
    keep(tmp_path / "whole", reply("a"))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "journal.log").write_bytes(HEADER[:5])

    assert (
        keep(tmp_path / "cut", reply("a")).read_bytes()
        == (tmp_path / "whole" / "journal.log").read_bytes()
    )


def test_no_file_stays_open(tmp_path):
    before = open_files()

    keep(tmp_path, reply("a"))
    with read_only(tmp_path) as view:
        assert len(view) == 1
        assert open_files() != before

    assert open_files() == before


def open_files() -> list[str]:
    """Return the descriptors that are in use; the one that lists them is not there any more."""
    return sorted(file.name for file in Path("/proc/self/fd").iterdir() if file.exists())


def test_looking_takes_no_lock_and_creates_nothing(tmp_path):
    with read_only(tmp_path / "absent") as view:
        assert (len(view), list(view), view.notes(), view.spent_micros()) == (0, [], {}, 0)
        assert key("a") not in view
    assert list(tmp_path.iterdir()) == []

    with open_store(tmp_path) as store:
        store.sending([intent("a", 10), intent("b", 20)])
        store.append([reply("a")])
        with read_only(tmp_path) as view:
            store.append([reply("b")])
            assert (key("a") in view, key("b") in view) == (True, False)
            assert view[key("a")] == reply("a")
            assert view.spent_micros() == 30
        with read_only(tmp_path) as view:
            assert key("b") in view


def test_looking_leaves_a_torn_end_to_the_writer_at_work(tmp_path, caplog):
    journal = keep(tmp_path, reply("a"))
    with journal.open("ab") as stream:
        stream.write(b"half a li")
    before = journal.read_bytes()

    with read_only(tmp_path) as view:
        assert list(view) == [key("a")]

    assert journal.read_bytes() == before
    assert not caplog.records


def test_a_journal_opens_the_same_whatever_happened_in_between(tmp_path):
    fill(tmp_path)

    with open_store(tmp_path) as store, read_only(tmp_path) as view:
        for one in (store, view):
            assert {k: one[k] for k in one} == {
                key("a"): reply("a"),
                key("b"): reply("b"),
                key("c"): reply("c", content=None, finish_reason="rejected", usage=None),
            }
            assert one.spent_micros() == 7 + 7 + 20 + 40
            assert one.account(map(key, "abcd")) == Account(14, 60, 5, 2)
            assert one.notes() == {"batch": {"id": "batch-1"}}


class Interrupted:
    """An ``os`` call that, the next time, does part of its work and is hit by Ctrl-C."""

    def __init__(self, real: Any, when: str) -> None:
        self._real = real
        self._when = when

    def __call__(self, descriptor: int, *data: Any) -> Any:
        when, self._when = self._when, ""
        if when == "half-way":
            self._real(descriptor, data[0][: len(data[0]) // 2])
        elif when == "after":
            self._real(descriptor, *data)
        if when:
            raise KeyboardInterrupt
        return self._real(descriptor, *data)


@pytest.mark.parametrize(
    ("call", "when", "kept"),
    [
        ("write", "before", 0),
        ("write", "half-way", 0),
        ("write", "after", 1),
        ("fsync", "before", 1),
        ("fsync", "after", 1),
    ],
)
@pytest.mark.parametrize("first_use", ["append", "look"])
def test_ctrl_c_in_a_write_leaves_whole_lines_only(
    tmp_path, monkeypatch, call, when, kept, first_use
):
    with open_store(tmp_path) as store:
        store.append([reply("a")])
        store.sending([intent("x", 10)])
        with monkeypatch.context() as patch:
            patch.setattr(os, call, Interrupted(getattr(os, call), when))
            with pytest.raises(KeyboardInterrupt):
                store.append([reply("b")])
        if first_use == "look":
            assert (len(store), key("b") in store) == (1 + kept, bool(kept))
            assert store.spent_micros() == 0  # still in flight, in this process
        store.append([reply("c")])
        store.append([reply("b")])
        assert {k: store[k] for k in store} == {key(n): reply(n) for n in "abc"}

    with open_store(tmp_path) as store:
        assert {k: store[k] for k in store} == {key(n): reply(n) for n in "abc"}
    assert (tmp_path / "journal.log").read_bytes().count(b" reply ") == 3


def test_ctrl_c_while_counting_what_was_written_loses_nothing(tmp_path, monkeypatch):
    with open_store(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(type(store._index), "add", interrupted_once(type(store._index).add))
            with pytest.raises(KeyboardInterrupt):
                store.received([body("a", 1), body("b", 2)])
        assert store.spent_micros() == 3
        assert store.bodies(key("b")) == [body("b", 2)]


def interrupted_once(real: Any) -> Any:
    calls: list[int] = []

    def add(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*args)

    return add


@pytest.mark.parametrize(("fault", "call"), [("EIO", "fsync"), ("ENOSPC", "write")])
def test_after_a_failed_write_a_store_reads_on_and_writes_nothing(
    tmp_path, monkeypatch, fault, call
):
    with open_store(tmp_path) as store:
        store.append([reply("a")])
        store.lost(key("x"), "timeout")
        faulty = Faulty(getattr(os, call), fault, 1)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, faulty)
            for write in (
                lambda: store.append([reply("b")]),
                lambda: store.append([reply("b")]),
                lambda: store.lost(key("a"), "timeout"),
                lambda: store.append([]),
            ):
                with pytest.raises(StorageError, match=f"{os.strerror(getattr(errno, fault))}"):
                    write()
            store.sync()
        assert faulty.calls == 1
        assert list(store) == [key("a")]
        assert store[key("a")] == reply("a")


@pytest.mark.parametrize("call", ["ftruncate", "fsync", "write"])
def test_a_torn_end_that_cannot_be_dropped_is_said(tmp_path, monkeypatch, call):
    journal = tmp_path / "journal.log"
    journal.write_bytes(HEADER[:5])
    monkeypatch.setattr(os, call, Faulty(getattr(os, call), "EIO", 1))

    with pytest.raises(StorageError, match="Input/output error"), open_store(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="Not a directory"), open_store(tmp_path / "file" / "x"):
        pass


def work_on_a_failing_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, mistake: int) -> float:
    with open_store(folder) as store:
        store.void(key("a"), "HTTP 503")
        monkeypatch.setattr(os, "fsync", Faulty(os.fsync, "EIO", 1))
        return 1 / mistake


def test_a_failed_sync_at_the_end_is_said(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="Input/output error"):
        work_on_a_failing_disk(tmp_path, monkeypatch, 1)


def test_an_error_of_the_caller_is_not_hidden_by_the_end(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        work_on_a_failing_disk(tmp_path, monkeypatch, 0)


@pytest.mark.slow
def test_memory_of_100_000_replies_stays_flat(tmp_path):
    """Contents stay on the disk: the index alone is held, and it is ready in seconds."""
    write = """
        import hashlib, pathlib, sys
        from medslm.teacher.replies import Body, Intent, Reply
        from medslm.teacher.store import open_store
        with open_store(pathlib.Path(sys.argv[1])) as store:
            for group in range(1000):
                keys = [hashlib.sha256(b"%d.%d" % (group, n)).hexdigest() for n in range(100)]
                store.sending([Intent(key, 500) for key in keys])
                store.received([Body(key, "y" * 500, 300, "r", 0, True) for key in keys])
                store.append([Reply(key, "x" * 850, "stop", {"n": 1}, "m", 0, True) for key in keys])
    """
    read = """
        import pathlib, resource, sys, time
        from medslm.teacher.store import open_store
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with open_store(pathlib.Path(sys.argv[1])) as store:
            ready = time.process_time() - started
            for key in list(store)[::100]:
                assert store[key].content
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(len(store), store.spent_micros(), ready, grown / 1024)
    """
    run_python(write, tmp_path)

    replies, spent, seconds, megabytes = map(float, run_python(read, tmp_path).split())

    assert (replies, spent) == (100_000, 30_000_000)
    assert seconds < 6  # 2 on an idle machine
    assert megabytes < 100


def run_python(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
