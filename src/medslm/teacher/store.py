"""The reply store: an append-only journal on disk, durable before anything in it counts."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from medslm.errors import StorageError
from medslm.files import lock
from medslm.teacher.journal import (
    HEADER,
    Account,
    Index,
    Paid,
    body_line,
    damaged,
    decode,
    encode,
    fields_of,
    lines_of,
    read_index,
    read_line,
)
from medslm.teacher.replies import Body, Intent, Reply

log = logging.getLogger(__name__)

JOURNAL = "journal.log"
_READ = 1 << 14  # most lines are shorter than this


class View:
    """Replies, bodies and accounts by request key. Contents stay on the disk until asked for."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._index, self._end = read_index(path, descriptor)
        self._adrift = set(self._index.open)  # what nobody in this process awaits

    def __contains__(self, key: str) -> bool:
        return self._known().reply(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return self._known().replies

    def __getitem__(self, key: str) -> Reply:
        """Read a reply from the disk; IntegrityError if it was damaged since the opening."""
        return self._paid(key).reply

    def paid(self, key: str) -> Paid:
        """Return a reply with what its bodies cost, here or where it was imported from."""
        reply, elsewhere = self._paid(key)
        return Paid(reply, elsewhere + self.account([key]).micros)

    def bodies(self, key: str) -> list[Body]:
        """Return what was received for a key in this and earlier runs, oldest first."""
        return [cast("Body", self._read(offset)) for offset in self._known().bodies(key)]

    def notes(self) -> dict[str, object]:
        """Return the latest value under every name."""
        offsets = self._known().notes.values()
        return dict(cast("tuple[str, object]", self._read(offset)) for offset in offsets)

    def account(self, keys: Iterable[str]) -> Account:
        """Return what these keys cost; attempts in flight in this process are not lost yet."""
        return self._known().account(keys, self._adrift)

    def spent_micros(self) -> int:
        """Return what was ever spent here: bodies, and attempts that were lost at their most."""
        index = self._known()
        return index.settled_micros + sum(index.open.get(key, 0) for key in self._adrift)

    def _known(self) -> Index:
        return self._index

    def _paid(self, key: str) -> Paid:
        offset = self._known().reply(key)
        if offset is None:
            raise KeyError(key)
        return cast("Paid", self._read(offset))

    def _read(self, offset: int) -> object:
        length = _READ
        while b"\n" not in (block := os.pread(self._descriptor, length, offset)):
            if len(block) < length:
                break
            length *= 2
        line = block[: block.find(b"\n") + 1]
        try:
            return read_line(decode(line))
        except ValueError as exc:
            number = sum(1 for _, start, _ in lines_of(self._descriptor) if start <= offset)
            raise damaged(self._path, number, exc) from None


class Store(View):
    """A view that also writes, made by `open_store`, which holds the lock meanwhile.

    For one thread. A method that writes returns when its lines are on the disk, but for `void` and
    `lost`, bodies that may wait, and replies whose bodies are written already: those lines come
    with the next group, `sync` or the end. After a failed write or fsync nothing more is written,
    and it is not tried again: the next opening reads what is really there.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__(path, descriptor)
        self._failure: OSError | None = None
        self._synced = True
        self._recover()

    def append(self, replies: Sequence[Reply]) -> None:
        """Keep these replies; one whose key is held is left alone."""
        self.adopt([Paid(reply, 0) for reply in replies])

    def adopt(self, paid: Sequence[Paid]) -> None:
        """Keep replies that were paid for elsewhere: they cost nothing here, but say what they did."""
        fresh: dict[str, Paid] = {}
        for one in paid:
            if one.reply.key not in self:
                fresh.setdefault(one.reply.key, one)
        # A reply whose body is on the disk can be read from it again: it may wait for the next group.
        durable = any(not self._known().bodies(key) for key in fresh)
        lines = [encode("reply", key, 0, fields_of(one)) for key, one in fresh.items()]
        self._write(lines, durable=durable)

    def forget(self, keys: Sequence[str]) -> None:
        """Hold these keys' replies and bodies no more, so that they are asked again."""
        self._write([encode("forget", key, 0, {}) for key in keys])

    def sending(self, intents: Sequence[Intent]) -> None:
        """Return when all intents are on the disk: only then may they be sent."""
        self._write([encode("sent", intent.key, intent.micros, {}) for intent in intents])
        self._adrift.difference_update(intent.key for intent in intents)

    def received(self, bodies: Sequence[Body], *, durable: bool = True) -> None:
        """Return when all bodies are on the disk, or, if not ``durable``, when they are written."""
        self._write([body_line(body) for body in bodies], durable=durable)

    def void(self, key: str, why: str) -> None:
        """Note that an attempt cost nothing. Durable with the next group: till then it counts."""
        self._write([encode("void", key, 0, {"why": why})], durable=False)

    def lost(self, key: str, why: str) -> None:
        """Note that an attempt may have cost its most. Durable with the next group."""
        micros = self._known().open.get(key, 0)
        self._write([encode("lost", key, micros, {"why": why})], durable=False)

    def note(self, name: str, value: object) -> None:
        """Put a small JSON value on the disk under a name; the latest counts."""
        key = hashlib.sha256(name.encode()).hexdigest()
        self._write([encode("note", key, 0, {"name": name, "value": value})])

    def sync(self) -> None:
        """Make durable what still waits for the next group."""
        if not self._synced and self._failure is None:
            with self._last_try():
                os.fsync(self._descriptor)
            self._synced = True

    def _known(self) -> Index:
        """Return the index; read it anew if something, like Ctrl-C, cut into a write."""
        if self._in_doubt and self._failure is None:
            self._index, self._end = read_index(self._path, self._descriptor)
            self._recover()
        return self._index

    def _write(self, lines: Sequence[bytes], *, durable: bool = True) -> None:
        index = self._known()
        if self._failure is not None:
            raise self._storage_error(self._failure)
        if not lines:
            return
        self._in_doubt = True
        with self._last_try():
            self._put(b"".join(lines))
            if durable:
                os.fsync(self._descriptor)
        self._synced = durable
        for line in lines:
            index.add(decode(line), self._end)
            self._end += len(line)
        self._in_doubt = False

    def _recover(self) -> None:
        """Cut off a torn end, so that nothing is ever glued to it."""
        torn = os.fstat(self._descriptor).st_size - self._end
        if torn:
            log.warning("%s: dropped %d bytes that were not fully written", self._path, torn)
        with self._last_try():
            os.ftruncate(self._descriptor, self._end)
            if self._end == 0:
                self._end = self._put(HEADER)
            os.fsync(self._descriptor)
        self._in_doubt = False

    def _put(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(data)

    @contextlib.contextmanager
    def _last_try(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            self._failure = exc
            raise self._storage_error(exc) from exc

    def _storage_error(self, exc: OSError) -> StorageError:
        return StorageError(
            f"{self._path}: could not be written ({exc.strerror}); what was stored before is safe, "
            "nothing more is written: free or repair the disk, then run again"
        )


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Open the journal in ``folder`` for this process alone.

    A last line that a kill or a power cut left incomplete is dropped. Raises LockHeld (at once) if
    another process writes here, IntegrityError naming the line if another line is damaged,
    StorageError if the disk does not let us.
    """
    path = folder / JOURNAL
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / "lock", f"the reply journal {folder.name}"))
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            stack.callback(os.close, descriptor)
            store = Store(path, descriptor)
            _sync_folder(folder)
        except OSError as exc:
            raise StorageError(
                f"{path}: could not be opened for writing ({exc.strerror}); nothing was changed: "
                "look at the disk, its permissions and `ulimit`, then run again"
            ) from exc
        _say_what_was_in_flight(store, path)
        yield store
        store.sync()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[View]:
    """Look into the journal in ``folder`` as it is now, empty if there is none; no lock is taken.

    What another process is writing meanwhile is not seen. Raises IntegrityError like `open_store`.
    """
    path = folder / JOURNAL
    # An empty file stands in for a missing one: looking must create nothing.
    descriptor = os.open(path if path.exists() else os.devnull, os.O_RDONLY)
    try:
        yield View(path, descriptor)
    finally:
        os.close(descriptor)


def _say_what_was_in_flight(store: Store, path: Path) -> None:
    index = store._index
    if index.open:
        log.warning(
            "%s: %d requests were in flight when a run ended; they may have been paid for: "
            "until their answers come they count as $%.4f",
            path,
            len(index.open),
            sum(index.open.values()) / 1e6,
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
