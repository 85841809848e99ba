from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from medslm.teacher.journal import Account
from medslm.teacher.replies import Body, Intent, Reply
from medslm.teacher.store import View, open_store, read_only
from tests.teacher.journals import body, key, reply

names = st.sampled_from("abc")
amounts = st.integers(0, 50)


class Model:
    """What a journal should say, worked out anew from the list of all that was written."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, Any]] = []

    def of(self, name: str) -> list[tuple[str, Any]]:
        return [(kind, value) for kind, n, value in self.events if n == name]

    def reply(self, name: str) -> Reply | None:
        kept = None
        for kind, value in self.of(name):
            if kind == "reply":
                kept = kept or value
            elif kind == "forget":
                kept = None
        return kept

    def bodies(self, name: str) -> list[Body]:
        kept: list[Body] = []
        for kind, value in self.of(name):
            kept = [] if kind == "forget" else [*kept, value] if kind == "body" else kept
        return kept

    def account(self, name: str, in_flight: set[str]) -> Account:
        attempts = [(k, v) for k, v in self.of(name) if k in ("sent", "body", "void", "lost")]
        paid = sum(v.micros for k, v in attempts if k == "body")
        lost = [v for k, v in attempts if k == "lost"]
        after = [*[kind for kind, _ in attempts[1:]], "in flight" if name in in_flight else "sent"]
        for (kind, value), following in zip(attempts, after[: len(attempts)], strict=True):
            if (kind, following) == ("sent", "sent"):
                lost.append(value)
        return Account(paid, sum(lost), [k for k, _ in attempts].count("sent"), len(lost))

    def open_micros(self, name: str) -> int:
        attempts = [(k, v) for k, v in self.of(name) if k in ("sent", "body", "void", "lost")]
        return attempts[-1][1] if attempts and attempts[-1][0] == "sent" else 0


class StoreAgainstModel(RuleBasedStateMachine):
    """Any writing, any kill: the store says what the model says of the lines that got through."""

    @initialize()
    def begin(self) -> None:
        self.home = contextlib.ExitStack()
        self.folder = Path(self.home.enter_context(tempfile.TemporaryDirectory()))
        self.model = Model()
        self.in_flight: set[str] = set()
        self.group: list[tuple[str, str, Any]] = []
        self.group_start = 0
        self._open()

    def _open(self) -> None:
        self.opened = contextlib.ExitStack()
        self.store = self.opened.enter_context(open_store(self.folder))

    def _wrote(self, group: list[tuple[str, str, Any]], start: int) -> None:
        self.model.events += group
        self.group, self.group_start = group, start

    def _size(self) -> int:
        return (self.folder / "journal.log").stat().st_size

    @rule(group=st.lists(st.tuples(names, amounts), max_size=3))
    def sending(self, group: list[tuple[str, int]]) -> None:
        start = self._size()
        self.store.sending([Intent(key(name), micros) for name, micros in group])
        self._wrote([("sent", name, micros) for name, micros in group], start)
        self.in_flight |= {name for name, _ in group}

    @rule(group=st.lists(st.tuples(names, amounts, st.text(max_size=3)), max_size=3))
    def received(self, group: list[tuple[str, int, str]]) -> None:
        start = self._size()
        bodies = [(name, body(name, micros, text=text)) for name, micros, text in group]
        self.store.received([one for _, one in bodies])
        self._wrote([("body", name, one) for name, one in bodies], start)
        self.in_flight -= {name for name, _, _ in group}

    @rule(name=names, kind=st.sampled_from(["void", "lost"]))
    def ended(self, name: str, kind: str) -> None:
        start = self._size()
        value = self.model.open_micros(name)
        getattr(self.store, kind)(key(name), "why")
        self._wrote([(kind, name, value)], start)
        self.in_flight -= {name}

    @rule(group=st.lists(st.tuples(names, st.sampled_from(["stop", "length"])), max_size=3))
    def append(self, group: list[tuple[str, str]]) -> None:
        start = self._size()
        replies = [(name, reply(name, finish_reason=reason)) for name, reason in group]
        self.store.append([one for _, one in replies])
        fresh: dict[str, Reply] = {}
        for name, one in replies:
            if self.model.reply(name) is None:
                fresh.setdefault(name, one)
        self._wrote([("reply", name, one) for name, one in fresh.items()], start)

    @rule(group=st.lists(names, max_size=2))
    def forget(self, group: list[str]) -> None:
        start = self._size()
        self.store.forget([key(name) for name in group])
        self._wrote([("forget", name, None) for name in group], start)

    @rule(name=names, value=amounts)
    def note(self, name: str, value: int) -> None:
        start = self._size()
        self.store.note(name, value)
        self._wrote([("note", name, value)], start)

    @rule()
    def reopen(self) -> None:
        self.opened.close()
        self.in_flight.clear()
        self.group = []
        self._open()

    @precondition(lambda self: self.group)
    @rule(data=st.data())
    def kill_in_the_last_write(self, data: st.DataObject) -> None:
        self.opened.close()
        path = self.folder / "journal.log"
        written = path.read_bytes()
        cut = data.draw(st.integers(self.group_start, len(written)))
        path.write_bytes(written[:cut])
        arrived = written[self.group_start : cut].count(b"\n")
        del self.model.events[len(self.model.events) - len(self.group) + arrived :]
        self.in_flight.clear()
        self.group = []
        self._open()

    @invariant()
    def says_what_the_model_says(self) -> None:
        model = self.model
        nothing: set[str] = set()
        with read_only(self.folder) as view:
            views: list[tuple[View, set[str]]] = [(self.store, self.in_flight), (view, nothing)]
            for one, flying in views:
                held = {name: r for name in "abc" if (r := model.reply(name)) is not None}
                assert len(one) == len(held)
                assert {k: one[k] for k in one} == {key(n): r for n, r in held.items()}
                accounts = [model.account(name, flying) for name in "abc"]
                assert [one.account([key(name)]) for name in "abc"] == accounts
                together = Account(*map(sum, zip(*accounts, strict=True)))
                assert one.account(map(key, "abc")) == together
                assert one.spent_micros() == sum(a.micros + a.lost_micros for a in accounts)
                assert [one.bodies(key(n)) for n in "abc"] == [model.bodies(n) for n in "abc"]
                latest = {n: v for kind, n, v in model.events if kind == "note"}
                assert one.notes() == latest

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            self.opened.close()
            self.home.close()


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=60, stateful_step_count=25)
