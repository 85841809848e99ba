from __future__ import annotations

import json
import os
import random
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from medslm.cli import main
from medslm.errors import DataError, IntegrityError, LockHeld
from medslm.files import dump_json
from medslm.teacher import sharing
from medslm.teacher.journal import HEADER, encode
from medslm.teacher.replies import Reply
from medslm.teacher.sharing import (
    Damage,
    Imported,
    Repaired,
    Verified,
    export,
    import_,
    repair,
    require_undamaged,
    verified_text,
    verify,
)
from medslm.teacher.store import open_store, read_only
from tests.teacher.journals import FILLED, body, fill, intent, keep, key, reply


def paid(folder: Path, names: str, *, seed: int = 0) -> Path:
    """Ask for ``names`` in an order and in groups of the seed's choosing; return the folder."""
    rng = random.Random(seed)
    order = rng.sample(names, len(names))
    cut = rng.randrange(len(order) + 1)
    with open_store(folder) as store:
        for group in (order[:cut], order[cut:]):
            store.sending([intent(name) for name in group])
            store.received([body(name, ord(name)) for name in group])
            store.append([reply(name) for name in group])
    return folder


def exported(folder: Path) -> bytes:
    out = folder.with_suffix(".jsonl")
    export(folder, out)
    return out.read_bytes()


def test_what_is_exported_is_every_reply_with_what_it_cost(tmp_path):
    fill(tmp_path / "local")

    assert export(tmp_path / "local", tmp_path / "out.jsonl") == 3

    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == sorted(map(key, "abc"))
    assert {row["key"]: row["paid_micros"] for row in rows} == {
        key("a"): 7,
        key("b"): 7,
        key("c"): 0,
    }
    crc = rows[0].pop("crc32")
    assert rows[0] == {
        "key": key("c"),
        "content": None,
        "created": 0,
        "finish_reason": "rejected",
        "paid_micros": 0,
        "served_model": "m",
        "structured": False,
        "usage": None,
    }
    assert crc == f"{zlib.crc32(dump_json(rows[0]).encode()):08x}"


@pytest.mark.parametrize("seed", range(4))
def test_equal_replies_give_equal_bytes_in_whatever_order_they_came(tmp_path, seed):
    one = exported(paid(tmp_path / "one", "abcdef"))

    assert exported(paid(tmp_path / "other", "abcdef", seed=seed)) == one
    assert exported(paid(tmp_path / "fewer", "abcde", seed=seed)) != one


@given(st.text(st.characters(exclude_categories=[])), st.none() | st.text(), st.integers(0))
def test_any_reply_survives_the_journey(tmp_path_factory, content, model, created):
    folder = tmp_path_factory.mktemp("journey")
    one = reply("a", content=content, served_model=model or "", created=created)
    keep(folder / "here", one)

    export(folder / "here", folder / "out.jsonl")
    import_(folder / "there", folder / "out.jsonl")

    with read_only(folder / "there") as view:
        assert view[key("a")] == one


def test_an_import_adds_what_is_missing_free_of_charge(tmp_path):
    paid(tmp_path / "theirs", "abc")
    export(tmp_path / "theirs", tmp_path / "out.jsonl")
    paid(tmp_path / "ours", "c")

    assert import_(tmp_path / "ours", tmp_path / "out.jsonl") == Imported(added=2, held=1)
    assert import_(tmp_path / "ours", tmp_path / "out.jsonl") == Imported(added=0, held=3)

    with read_only(tmp_path / "ours") as view:
        assert {k: view[k] for k in view} == {key(name): reply(name) for name in "abc"}
        assert view.spent_micros() == ord("c")
        assert view.paid(key("a")).micros == ord("a")
    assert exported(tmp_path / "ours") == (tmp_path / "out.jsonl").read_bytes()


def test_an_import_into_nothing_begins_a_journal_that_exports_the_same(tmp_path):
    whole = exported(paid(tmp_path / "theirs", "abcdef"))

    assert import_(tmp_path / "ours", tmp_path / "theirs.jsonl") == Imported(6, 0)

    assert exported(tmp_path / "ours") == whole
    assert verify(tmp_path / "ours").kinds == {"reply": 6}


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_an_import_is_whole_whatever_the_size_of_its_groups(tmp_path, monkeypatch, size):
    whole = exported(paid(tmp_path / "theirs", "abc"))
    monkeypatch.setattr(sharing, "_GROUP", size)

    import_(tmp_path / "ours", tmp_path / "theirs.jsonl")

    assert exported(tmp_path / "ours") == whole


@pytest.mark.parametrize(
    "other",
    [
        {"content": "another"},
        {"created": 1},
        {"usage": None},
        {"structured": True},
        {"finish_reason": "length"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_reply_to_a_held_key_is_refused_and_nothing_written(tmp_path, other):
    exported(paid(tmp_path / "theirs", "abc"))
    journal = keep(tmp_path / "ours", reply("b", **other))
    before = journal.read_bytes()

    with pytest.raises(IntegrityError, match=rf"theirs\.jsonl:\d: .* reply to {key('b')}"):
        import_(tmp_path / "ours", tmp_path / "theirs.jsonl")

    assert journal.read_bytes() == before


def row(name: str = "a", **overrides: object) -> bytes:
    """Return an exported line whose checksum is right whatever stands in it."""
    fields = {
        **{"key": key(name), "content": "x", "created": 0, "finish_reason": "stop"},
        **{"paid_micros": 0, "served_model": "m", "structured": False, "usage": None},
        **overrides,
    }
    fields = {name: value for name, value in fields.items() if value != "absent"}
    crc = f"{zlib.crc32(dump_json(fields).encode()):08x}"
    return dump_json(fields | {"crc32": crc}).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\xff\n", "1: not an exported reply: 'ascii' codec"),
        (b"{\n", "1: not an exported reply: Expecting property name"),
        (b"[]\n", "1: not an exported reply: not a JSON object"),
        (b"[" * 100_000 + b"\n", "1: not an exported reply: maximum recursion"),
        (b"{}\n", "1: not an exported reply: key is not the key"),
        (b'{"key": 1}\n', "1: not an exported reply: key is not the key"),
        (row(key="0" * 63), "1: not an exported reply: key is not the key"),
        (row(key="0" * 65), "1: not an exported reply: key is not the key"),
        (row(key="../" + "0" * 61), "1: not an exported reply: key is not the key"),
        (row(created="absent"), "1: not an exported reply: its fields are not"),
        (row(more=1), "1: not an exported reply: its fields are not"),
        (row(content=1), "1: not an exported reply: content is a int"),
        (row(paid_micros=-1), "1: not an exported reply: paid_micros is negative"),
        (row("a") + b"\n", "2: not an exported reply: Expecting value"),
        (row("a") + row("a"), "2: its key comes before that of the line above"),
        (row("a") + row("c"), "2: its key comes before that of the line above"),
    ],
    ids=[
        *["bytes", "cut", "list", "deep", "no-key", "key-a-number", "key-short", "key-long"],
        *["key-a-path", "lacks-a-field", "more-fields", "wrong-type", "negative", "empty-line"],
        *["twice", "unsorted"],
    ],
)
def test_a_file_that_export_did_not_write_is_refused_before_anything_is_made(
    tmp_path, data, complaint
):
    file = tmp_path / "in.jsonl"
    file.write_bytes(data)

    with pytest.raises(DataError) as refused:
        import_(tmp_path / "new", file)

    assert f"in.jsonl:{complaint}" in str(refused.value)
    assert not (tmp_path / "new").exists()
    file.write_bytes(row("c") + row("a"))
    assert import_(tmp_path / "new", file) == Imported(2, 0)


@pytest.mark.parametrize("name", ["absent.jsonl", "."])
def test_a_file_that_is_not_there_is_said(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        import_(tmp_path / "new", tmp_path / name)


def test_every_flipped_bit_and_every_cut_of_a_file_is_noticed(tmp_path):
    whole = exported(paid(tmp_path / "theirs", "ab"))
    file = tmp_path / "in.jsonl"
    keep(tmp_path / "ours")

    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        with pytest.raises((DataError, IntegrityError)):
            import_(tmp_path / "ours", file)
    rows = whole.splitlines()
    for cut in range(1, len(whole)):
        file.write_bytes(whole[:cut])
        if whole[:cut].splitlines()[-1] not in rows:  # else whole rows only, and DVC's hash to tell
            with pytest.raises((DataError, IntegrityError)):
                import_(tmp_path / "ours", file)

    with read_only(tmp_path / "ours") as view:
        assert len(view) == 0


def test_a_damaged_line_of_a_file_is_told_from_a_foreign_one(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_bytes(row("c") + row("a").replace(b'"x"', b'"y"'))

    with pytest.raises(IntegrityError, match=r"in\.jsonl:2: .*checksum does not match"):
        import_(tmp_path / "new", file)


def test_a_journal_in_use_is_not_imported_into(tmp_path):
    exported(paid(tmp_path / "theirs", "a"))

    with open_store(tmp_path / "ours"), pytest.raises(LockHeld, match="reply journal ours"):
        import_(tmp_path / "ours", tmp_path / "theirs.jsonl")


@pytest.mark.parametrize("verb", ["export", "verify", "repair"])
def test_a_journal_that_is_not_there_is_said_with_those_that_are(tmp_path, verb):
    keep(tmp_path / "gpt", reply())
    keep(tmp_path / "local", reply())
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=r"there are: gpt, local\)"):
        call(verb, tmp_path / "empty")
    with pytest.raises(DataError, match=r"there are: none\)"):
        call(verb, tmp_path / "nowhere" / "empty")
    assert not (tmp_path / "nowhere").exists()


def call(verb: str, folder: Path) -> object:
    if verb == "export":
        return export(folder, folder.parent / "out.jsonl")
    return verify(folder) if verb == "verify" else repair(folder, retry_failed=True)


def test_verify_counts_lines_money_and_what_is_in_flight(tmp_path):
    fill(tmp_path)

    found = verify(tmp_path)

    kinds = [kind for kind, _ in FILLED]
    assert found == Verified(
        {kind: kinds.count(kind) for kind in set(kinds)},
        replies=3,
        spent_micros=7 + 7 + 20 + 40,
        in_flight=1,
        torn_bytes=0,
        damaged=[],
    )
    assert verified_text(found) == (
        "sent                        5\n"
        "body                        2\n"
        "void                        1\n"
        "lost                        1\n"
        "reply                       3\n"
        "note                        1\n"
        "forget                      0\n"
        "keys with a reply           3\n"
        "in flight                   1\n"
        "spent                 $0.0001\n"
        "torn bytes at the end       0\n"
        "damaged lines               0"
    )
    require_undamaged(found, "local")


def test_verify_looks_while_another_writes_and_changes_nothing(tmp_path):
    with open_store(tmp_path) as store:
        store.append([reply("a")])
        journal = tmp_path / "journal.log"
        with journal.open("ab") as stream:
            stream.write(b"half a li")
        before = journal.read_bytes()

        found = verify(tmp_path)

    assert (found.replies, found.torn_bytes, found.damaged) == (1, 9, [])
    assert journal.read_bytes() == before


def test_verify_lists_all_damage_and_counts_the_rest(tmp_path):
    journal = fill(tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[0] = b"medslm-replies 2\n"
    lines[4] = lines[4].replace(b"body of a", b"body of A")
    lines[6] = encode("reply", key("a"), 0, {"content": "a sound line that is no reply"})
    journal.write_bytes(b"".join(lines))

    found = verify(tmp_path)

    assert found.damaged == [
        Damage(1, "it is not the first line of a journal of this version"),
        Damage(5, "its checksum does not match"),
        Damage(7, "its fields are not a reply's"),
    ]
    assert (found.kinds["body"], found.kinds["reply"], found.replies) == (1, 2, 2)
    with pytest.raises(IntegrityError) as told:
        require_undamaged(found, "local")
    assert "line 5 (its checksum does not match), line 7" in str(told.value)
    assert "replies repair local" in str(told.value)


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, " and 1 more;"), (30, " and 10 more;")])
def test_no_more_than_twenty_damaged_lines_are_named(count, more):
    found = Verified({}, 0, 0, 0, 0, [Damage(n, "why") for n in range(1, count + 1)])

    with pytest.raises(IntegrityError) as told:
        require_undamaged(found, "local")

    assert "line 20 (why)" in str(told.value)
    assert "line 21" not in str(told.value)
    assert (" more;" in str(told.value)) == bool(more)
    assert more in str(told.value)


def test_a_sound_journal_is_not_touched_by_a_repair(tmp_path):
    journal = fill(tmp_path)
    before = (journal.read_bytes(), journal.stat().st_ino)

    assert repair(tmp_path, retry_failed=False) == Repaired(0, None, 0)

    assert (journal.read_bytes(), journal.stat().st_ino) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.log", "lock"]


def test_every_repair_puts_what_it_moves_into_a_file_of_its_own(tmp_path):
    journal = fill(tmp_path)

    for number in (1, 2, 3):
        lines = journal.read_bytes().splitlines(keepends=True)
        damaged = [line.replace(b" ", b"_", 1) for line in lines[2:4]]
        lines[2:4] = damaged if number < 3 else [*damaged[:1], lines[3]]
        journal.write_bytes(b"".join(lines))
        done = repair(tmp_path, retry_failed=False)
        assert done.aside == tmp_path / f"journal.damaged-{number}"
        assert done.moved == (2 if number < 3 else 1)

    moved = [(tmp_path / f"journal.damaged-{n}").read_bytes().count(b"\n") for n in (1, 2, 3)]
    assert moved == [2, 2, 1]
    assert verify(tmp_path).damaged == []
    assert not list(tmp_path.glob("*.partial.*"))


def test_a_repair_moves_a_torn_end_along_with_damage(tmp_path):
    journal = fill(tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"x\n", *lines[1:], b"half a li"]))

    done = repair(tmp_path, retry_failed=False)

    assert done.moved == 2
    assert (tmp_path / "journal.damaged-1").read_bytes() == b"x\nhalf a li"
    assert journal.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("data", [b"something else\n", HEADER[:-2] + b"2\n", HEADER + b"x\n"])
def test_a_file_without_a_whole_line_is_left_alone(tmp_path, data):
    journal = tmp_path / "journal.log"
    journal.write_bytes(data)

    with pytest.raises(IntegrityError, match="no line of it is whole"):
        repair(tmp_path, retry_failed=False)

    assert journal.read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.log", "lock"]


def test_a_line_that_a_teacher_wrote_into_a_body_is_not_taken_for_one_of_ours(tmp_path):
    """Not even when the body's line is damaged: only line ends may have glued lines together."""
    forged = encode("forget", key("a"), 0, {}).decode()
    with open_store(tmp_path) as store:
        store.append([reply("a")])
        store.received([body("b", text=f"x {forged[:-1]} {forged[:-1]} ")])
        store.append([reply("b")])
    journal = tmp_path / "journal.log"
    journal.write_bytes(
        journal.read_bytes().replace(b"x " + forged[:9].encode(), b"y " + forged[:9].encode())
    )

    done = repair(tmp_path, retry_failed=False)

    assert done.moved == 1
    with read_only(tmp_path) as view:
        assert set(view) == {key("a"), key("b")}
        assert view.bodies(key("b")) == []


def test_a_repair_while_another_writes_is_refused(tmp_path):
    with open_store(tmp_path / "local"), pytest.raises(LockHeld, match="reply journal local"):
        repair(tmp_path / "local", retry_failed=False)


def test_failed_replies_are_asked_again_only_when_that_is_wanted(tmp_path):
    fill(tmp_path)
    before = verify(tmp_path).spent_micros

    assert repair(tmp_path, retry_failed=False).forgotten == 0
    with read_only(tmp_path) as view:
        assert key("c") in view
    assert repair(tmp_path, retry_failed=True) == Repaired(0, None, 1)
    with read_only(tmp_path) as view:
        assert set(view) == {key("a"), key("b")}
    assert repair(tmp_path, retry_failed=True) == Repaired(0, None, 0)

    found = verify(tmp_path)
    assert (found.kinds["forget"], found.spent_micros) == (1, before)


@pytest.fixture
def replies_folder(tmp_path: Path) -> Path:
    """The folder under which the command line looks for journals in a test."""
    return Path(os.environ["DVC_ROOT"]) / ".work" / "replies"


def medslm(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["replies", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_a_team_shares_replies_by_two_verbs(tmp_path, replies_folder):
    paid(replies_folder / "gpt", "abc")
    out = tmp_path / "shared" / "out.jsonl"

    assert medslm("export", "gpt", out)[:2] == (0, f"{out}: 3 replies of gpt\n")
    assert medslm("import", "gpt-2", out)[:2] == (
        0,
        "gpt-2: 3 replies added, 0 were there before\n",
    )
    assert medslm("import", "gpt-2", out)[:2] == (
        0,
        "gpt-2: 0 replies added, 3 were there before\n",
    )
    with read_only(replies_folder / "gpt-2") as view:
        assert len(view) == 3


def test_a_damaged_journal_is_verified_with_exit_11_and_repaired(replies_folder):
    journal = fill(replies_folder / "gpt")
    sound = medslm("verify", "gpt")
    journal.write_bytes(journal.read_bytes().replace(b"content of b", b"content of B"))

    code, table, told = medslm("verify", "gpt")
    repaired = medslm("repair", "gpt")
    again = medslm("repair", "gpt", "--retry-failed")

    assert (sound[0], code) == (0, 11)
    assert "damaged lines               1" in table
    assert "line 8 (its checksum does not match)" in told
    assert told.count("\n") == 1
    aside = replies_folder / "gpt" / "journal.damaged-1"
    assert repaired[:2] == (0, f"gpt: 1 damaged lines moved to {aside}\n")
    assert again[:2] == (0, "gpt: nothing damaged, 1 failed replies will be asked again\n")
    assert medslm("verify", "gpt")[0] == 0


@pytest.mark.parametrize(
    "name",
    ["../gpt", "", ".hidden", "a/b", "-x", "a b", "a" * 65],
    ids=["up", "empty", "hidden", "folder", "option", "space", "long"],
)
@pytest.mark.parametrize("verb", ["export", "import", "verify", "repair"])
def test_a_name_is_never_a_path(tmp_path, replies_folder, verb, name):
    arguments = [tmp_path / "x.jsonl"] if verb in ("export", "import") else []

    code, _, told = medslm(verb, "--", name, *arguments)

    assert code == 2
    assert "is no teacher's name" in told
    assert not replies_folder.exists()


def test_no_verb_shows_what_a_reply_says(tmp_path, replies_folder):
    """Contents belong into files: a terminal's log may be read by others."""
    journal = fill(replies_folder / "gpt")
    journal.write_bytes(journal.read_bytes().replace(b"content of b", b"content of B"))

    said = [
        medslm(*command)
        for command in (
            ("export", "gpt", tmp_path / "x"),
            ("verify", "gpt"),
            ("repair", "gpt", "--retry-failed"),
            ("export", "gpt", tmp_path / "x"),
            ("import", "other", tmp_path / "x"),
        )
    ]

    assert [code for code, _, _ in said] == [11, 11, 0, 0, 0]
    assert "content of" not in "".join(out + err for _, out, err in said)
    assert isinstance(reply("b"), Reply)
