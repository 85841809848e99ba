from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import IntegrityError, LockHeld
from medslm.teacher.replies import Reply
from medslm.teacher.store import decode, encode, open_store, read_journal


def reply(key: str = "a", **overrides: Any) -> Reply:
    return dataclasses.replace(
        Reply(key, f"content of {key}", "stop", {"prompt_tokens": 3}, "m", 0), **overrides
    )


def fill(folder: Path, *replies: Reply) -> Path:
    with open_store(folder) as store:
        for one in replies:
            store.append(one)
    return folder / "journal.jsonl"


texts = st.text(st.characters(exclude_categories=[]))  # with lone surrogates: JSON can carry them


@given(texts, st.none() | texts, texts, st.none() | st.dictionaries(texts, st.integers()), texts)
def test_a_line_reads_back_as_its_reply(key, content, reason, usage, model):
    written = Reply(key, content, reason, usage, model, 12)

    assert decode(encode(written)) == written


def test_replies_are_there_after_reopening(tmp_path):
    fill(tmp_path, reply("a"), reply("b", content=None, finish_reason="rejected"))

    with open_store(tmp_path) as store:
        assert len(store) == 2
        assert store["a"] == reply("a")
        assert store["b"].finish_reason == "rejected"
        assert "c" not in store


def test_a_second_reply_to_a_key_is_not_kept(tmp_path):
    journal = fill(tmp_path, reply("a"), reply("a", content="another"))

    assert journal.read_bytes() == encode(reply("a"))


def test_a_journal_cut_anywhere_keeps_its_longest_valid_prefix(tmp_path):
    written = [reply("a"), reply("b", content="line\nbreak\u2029"), reply("c", usage=None)]
    whole = b"".join(map(encode, written))
    ends = [len(b"".join(map(encode, written[:n]))) for n in range(4)]
    journal = tmp_path / "journal.jsonl"

    for cut in range(len(whole) + 1):
        journal.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends[1:])
        with open_store(tmp_path) as store:
            assert len(store) == kept
            store.append(reply("z"))
        assert journal.read_bytes() == whole[: ends[kept]] + encode(reply("z"))


def test_a_torn_tail_of_zeros_is_dropped(tmp_path):
    journal = fill(tmp_path, reply("a"))
    with journal.open("ab") as stream:
        stream.write(b"\0" * 100)

    with open_store(tmp_path) as store:
        assert len(store) == 1
    assert journal.read_bytes() == encode(reply("a"))


def test_damage_in_the_middle_names_the_line_and_changes_nothing(tmp_path):
    journal = fill(tmp_path, reply("a"), reply("b"), reply("c"))
    damaged = journal.read_bytes().replace(b"content of b", b"content of B")
    journal.write_bytes(damaged)

    with (
        pytest.raises(IntegrityError, match=r"journal\.jsonl:2: .* checksum"),
        open_store(tmp_path),
    ):
        pass
    assert journal.read_bytes() == damaged


def test_no_flipped_bit_in_a_line_with_an_end_goes_unnoticed(tmp_path):
    journal = tmp_path / "journal.jsonl"
    first, rest = encode(reply("a")), encode(reply("b"))

    for place in range(len(first)):  # its newline included
        flipped = bytearray(first)
        flipped[place] ^= 1
        journal.write_bytes(bytes(flipped) + rest)
        with pytest.raises(IntegrityError):
            read_journal(journal)


@given(st.binary(max_size=200))
def test_a_line_of_any_bytes_is_read_or_refused(line):
    try:
        decode(line)
    except (ValueError, RecursionError) as exc:
        assert exc  # noqa: PT017 (totality: nothing else may come out)


def test_a_second_process_is_refused_at_once_and_a_later_one_is_not(tmp_path):
    code = textwrap.dedent("""
        import pathlib, sys
        from medslm.errors import LockHeld
        from medslm.teacher.store import open_store
        try:
            with open_store(pathlib.Path(sys.argv[1])):
                pass
        except LockHeld:
            sys.exit(41)
    """)

    with open_store(tmp_path):
        held = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    free = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    assert (held.returncode, free.returncode) == (41, 0)


def test_the_holder_of_the_journal_is_named(tmp_path):
    with (
        open_store(tmp_path / "mine"),
        pytest.raises(LockHeld, match="reply journal mine"),
        open_store(tmp_path / "mine"),
    ):
        pass
