from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import IntegrityError
from medslm.files import dump_json
from medslm.teacher import journal
from medslm.teacher.journal import (
    HEADER,
    KINDS,
    Account,
    Index,
    Line,
    Paid,
    body_line,
    decode,
    encode,
    fields_of,
    is_torn,
    lines_of,
    paid_of,
    read_index,
    read_line,
)
from medslm.teacher.replies import Body, Reply
from tests.teacher.journals import body, key, reply

texts = st.text(st.characters(exclude_categories=[]))  # with lone surrogates: JSON can carry them
keys = st.binary(min_size=32, max_size=32).map(bytes.hex)
money = st.integers(0, 10**18 - 1)


@given(
    keys,
    st.none() | texts,
    texts,
    st.none() | st.dictionaries(texts, st.integers()),
    texts,
    st.booleans(),
    money,
)
def test_a_line_reads_back_as_its_reply(key, content, reason, usage, model, structured, micros):
    written = Paid(Reply(key, content, reason, usage, model, 12, structured), micros)

    line = encode("reply", key, 0, fields_of(written))

    assert line.count(b"\n") == 1
    assert read_line(decode(line)) == written


@given(keys, texts, money, st.none() | texts, st.integers(0), st.booleans())
def test_a_line_reads_back_as_its_body(key, text, micros, request_id, created, structured):
    written = Body(key, text, micros, request_id, created, structured)

    assert read_line(decode(body_line(written))) == written


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_keeps_its_kind_key_and_money(kind):
    line = decode(encode(kind, key("a"), 12, {"name": "n", "value": 1}))

    assert line == Line(kind, key("a"), 12, b'{"name": "n", "value": 1}')


def test_a_line_looks_like_this():
    text = f'void {key("a")} 0 {{"why": "HTTP 503"}}'

    assert encode("void", key("a"), 0, {"why": "HTTP 503"}).decode() == (
        f"{zlib.crc32(text.encode()):08x} {text}\n"
    )


@pytest.mark.parametrize(
    ("name", "micros"),
    [
        ("", 0),
        (key("a").upper(), 0),
        (key("a")[:-1], 0),
        (key("a") + "0", 0),
        ("../" + key("a")[3:], 0),
        (key("a")[:-1] + "\n", 0),
        (key("a"), -1),
        (key("a"), 10**18),
    ],
)
def test_what_could_not_be_read_back_is_not_written(name, micros):
    with pytest.raises(ValueError, match="no line of this version"):
        encode("sent", name, micros, {})


def test_money_that_is_no_whole_number_is_not_written():
    with pytest.raises(ValueError, match="format code 'd'"):
        encode("sent", key("a"), 0.5, {})


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"content": 3}, "content is a int"),
        ({"created": 1.5}, "created is a float"),
        ({"created": True}, "created is a bool"),
        ({"finish_reason": None}, "finish_reason is a NoneType"),
        ({"served_model": None}, "served_model is a NoneType"),
        ({"structured": 1}, "structured is a int"),
        ({"usage": [1]}, "usage is a list"),
        ({"usage": {"prompt_tokens": 1.5}}, "usage.prompt_tokens is a float"),
        ({"usage": {1: 1}}, "usage.1 is a int"),
    ],
)
def test_a_reply_that_is_none_is_not_written(overrides, complaint):
    with pytest.raises(ValueError, match=complaint):
        fields_of(Paid(reply(**overrides), 0))


def test_a_reply_cannot_have_cost_less_than_nothing():
    with pytest.raises(ValueError, match="paid_micros is negative"):
        fields_of(Paid(reply(), -1))


def test_reading_a_reply_leaves_its_fields_as_they_were():
    fields = fields_of(Paid(reply(), 5))
    before = dict(fields)

    assert paid_of(key("a"), fields) == Paid(reply(), 5)
    assert fields == before


@pytest.mark.parametrize(
    ("kind", "fields", "complaint"),
    [
        ("reply", {"content": "x"}, "its fields are not a reply's"),
        ("reply", ["x"], "its fields are not a reply's"),
        ("body", {"text": "x"}, "its fields are not a body's"),
        ("body", {"key": "x"}, "its fields are not a body's"),
        ("note", {"name": "x"}, "its fields are not a note's"),
        ("sent", [], "it holds no fields"),
    ],
)
def test_a_sound_line_with_foreign_fields_is_refused(kind, fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_line(decode(encode(kind, key("a"), 0, fields)))


def test_a_note_reads_back_as_its_name_and_value():
    line = encode("note", key("batch"), 0, {"name": "batch", "value": [1, None]})

    assert read_line(decode(line)) == ("batch", [1, None])


def test_every_flipped_bit_of_a_line_is_noticed():
    line = encode("body", key("a"), 7, {"text": "Größe"})

    for place in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            with pytest.raises(ValueError, match=r"checksum|end is damaged|no line"):
                decode(bytes(flipped))


@given(st.binary(max_size=200))
def test_a_line_of_any_bytes_is_read_or_refused(line):
    with pytest.raises(ValueError, match=r"checksum|end is damaged|no line"):
        decode(line)


@given(st.binary(max_size=200))
def test_any_bytes_with_the_right_checksum_are_read_or_refused(text):
    try:
        line = decode(b"%08x %s\n" % (zlib.crc32(text), text))
    except ValueError as exc:
        assert str(exc) == "it is no line of this version"  # noqa: PT017 (and nothing else)
    else:
        assert line.kind in KINDS


@pytest.mark.parametrize("end", range(len(HEADER)))
def test_a_first_line_that_was_cut_is_torn(end):
    assert is_torn(1, HEADER[:end])


@pytest.mark.parametrize(
    ("number", "line"),
    [(1, HEADER), (1, b"something else"), (1, HEADER[:-1] + b"x"), (2, b"x\n")],
    ids=["whole", "foreign", "end-damaged", "any-with-an-end"],
)
def test_a_line_that_was_not_cut_is_not_torn(number, line):
    assert not is_torn(number, line)


def test_a_cut_line_is_torn_and_one_with_a_damaged_end_is_not():
    line = encode("reply", key("a"), 0, fields_of(Paid(reply(), 0)))

    for end in range(1, len(line)):
        assert is_torn(2, line[:end])
    assert is_torn(2, b"\0" * 100)
    assert not is_torn(2, line[:-1] + b"x")


def read_all(path: Path) -> list[tuple[int, int, bytes]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(lines_of(descriptor))
    finally:
        os.close(descriptor)


@given(st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=10))
def test_lines_are_found_whatever_the_block_size(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes(b"\n".join(lines))
    ends = [*[line + b"\n" for line in lines[:-1]], *lines[-1:]]
    offsets = [len(b"".join(ends[:n])) for n in range(len(ends))]
    wanted = [
        (number, offset, line)
        for number, (offset, line) in enumerate(zip(offsets, ends, strict=True), start=1)
        if line
    ]
    measured = journal._BLOCK

    try:
        for size in (1, 2, 7, measured):
            journal._BLOCK = size
            assert read_all(path) == wanted
    finally:
        journal._BLOCK = measured


def test_what_is_written_while_lines_are_read_is_not_seen(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthr")
    descriptor = os.open(path, os.O_RDONLY)
    lines = lines_of(descriptor)

    found = [next(lines)]
    with path.open("ab") as stream:
        stream.write(b"ee\nfour\n")
    found += lines
    os.close(descriptor)

    assert [line for _, _, line in found] == [b"one\n", b"two\n", b"thr"]
    assert [line for _, _, line in read_all(path)] == [b"one\n", b"two\n", b"three\n", b"four\n"]


def counted(*lines: tuple[str, str, int]) -> Index:
    index = Index()
    for offset, (kind, name, micros) in enumerate(lines):
        index.add(Line(kind, key(name), micros, b"{}"), offset)
    return index


def account(index: Index, *names: str, adrift: str = "abc") -> Account:
    return index.account([key(name) for name in names], set(map(key, adrift)))


@pytest.mark.parametrize(
    ("script", "wanted", "still_open"),
    [
        ("sent 10", Account(0, 10, 1, 1), 10),
        ("sent 10, body 7", Account(7, 0, 1, 0), None),
        ("sent 10, void 0", Account(0, 0, 1, 0), None),
        ("sent 10, lost 10", Account(0, 10, 1, 1), None),
        ("sent 10, sent 20", Account(0, 30, 2, 2), 20),
        ("sent 10, sent 20, body 7", Account(7, 10, 2, 1), None),
        ("sent 10, sent 20, lost 20", Account(0, 30, 2, 2), None),
        ("sent 10, body 7, sent 20", Account(7, 20, 2, 1), 20),
        ("body 7", Account(7, 0, 0, 0), None),
        ("lost 10", Account(0, 10, 0, 1), None),
        ("void 0", Account(0, 0, 0, 0), None),
        ("sent 10, reply 0", Account(0, 10, 1, 1), 10),
        ("sent 10, body 7, reply 0, forget 0", Account(7, 0, 1, 0), None),
        ("sent 0, sent 0", Account(0, 0, 2, 2), 0),
    ],
)
def test_an_attempt_is_ended_once(script, wanted, still_open):
    lines = [line.split() for line in script.split(", ")]
    index = counted(*[(kind, "a", int(micros)) for kind, micros in lines])

    assert account(index, "a") == wanted
    assert index.open.get(key("a")) == still_open
    assert index.settled_micros + sum(index.open.values()) == wanted.micros + wanted.lost_micros


def test_an_attempt_that_somebody_awaits_is_not_lost_yet():
    index = counted(("sent", "a", 10), ("sent", "b", 20), ("sent", "b", 5))

    assert account(index, "a", "b", adrift="") == Account(0, 20, 3, 1)
    assert account(index, "a", "b", adrift="a") == Account(0, 30, 3, 2)


def test_an_account_counts_each_of_its_keys_once_and_no_other():
    index = counted(("body", "a", 1), ("body", "b", 2), ("body", "b", 4), ("body", "c", 8))

    assert account(index, "a", "b", "b", "unknown") == Account(7, 0, 0, 0)


def test_the_first_reply_counts_until_it_is_forgotten():
    index = counted(("reply", "a", 0), ("body", "a", 1), ("reply", "a", 0), ("body", "b", 1))

    assert (list(index), index.replies) == ([key("a")], 1)
    assert index.reply(key("a")) == 0
    assert index.bodies(key("a")) == (1,)
    assert index.reply(key("b")) is None
    assert (index.reply(key("c")), index.bodies(key("c"))) == (None, ())

    index.add(Line("forget", key("a"), 0, b"{}"), 9)
    index.add(Line("forget", key("b"), 0, b"{}"), 10)
    assert (list(index), index.replies, index.bodies(key("a"))) == ([], 0, ())

    index.add(Line("reply", key("a"), 0, b"{}"), 11)
    assert (list(index), index.replies, index.reply(key("a"))) == ([key("a")], 1, 11)


def test_the_latest_note_of_a_name_counts():
    index = counted(("note", "a", 0), ("note", "b", 0), ("note", "a", 0))

    assert index.notes == {key("a"): 2, key("b"): 1}
    assert account(index, "a") == Account(0, 0, 0, 0)


def test_an_index_ends_before_a_torn_line(tmp_path):
    path = tmp_path / "name" / "journal.log"
    path.parent.mkdir()
    line = body_line(body("a"))
    path.write_bytes(HEADER + line + line[:-5])
    descriptor = os.open(path, os.O_RDONLY)

    index, end = read_index(path, descriptor)
    os.close(descriptor)

    assert index.bodies(key("a")) == (len(HEADER),)
    assert end == len(HEADER) + len(line)


@pytest.mark.parametrize(
    ("damage", "number"),
    [(b"medslm-replies 2\n", 1), (b"no journal", 1), (HEADER + b"x\n", 2), (HEADER + b"\n", 2)],
)
def test_the_damaged_line_is_named_with_what_to_do(tmp_path, damage, number):
    path = tmp_path / "local" / "journal.log"
    path.parent.mkdir()
    path.write_bytes(damage)
    descriptor = os.open(path, os.O_RDONLY)

    with pytest.raises(IntegrityError, match=rf"journal\.log:{number}: .* replies repair local`"):
        read_index(path, descriptor)
    os.close(descriptor)


def test_equal_fields_give_equal_lines():
    one = encode("note", key("n"), 0, {"name": "n", "value": {"a": 1, "b": 2}})
    other = encode("note", key("n"), 0, {"value": {"b": 2, "a": 1}, "name": "n"})

    assert one == other
    assert dump_json({"name": "n", "value": {"a": 1, "b": 2}}).encode() in one
