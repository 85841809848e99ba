from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from medslm.errors import MedslmError
from medslm.teacher.endpoint import Endpoint
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request
from medslm.teacher.store import open_store
from tests.teacher.fake_endpoint import FakeEndpoint, serving


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with serving() as running:
        yield running


@pytest.fixture
def answers(tmp_path: Path):
    """Let a teacher answer into a journal of its own and return its replies."""

    def run(teacher: Endpoint, requests: Sequence[Request]) -> list[Reply]:
        with open_store(tmp_path / "journal") as store:
            return [reply for group in teacher.answer(requests, store) for reply in group]

    return run


@pytest.fixture
def until_error(tmp_path: Path):
    """The same for a job that has to end with an error of ours; return what came before, and it."""

    def run(teacher: Endpoint, requests: Sequence[Request]) -> tuple[list[Reply], MedslmError]:
        seen: list[Reply] = []
        try:
            with open_store(tmp_path / "journal") as store:
                for group in teacher.answer(requests, store):
                    seen += group
        except MedslmError as exc:
            return seen, exc
        raise AssertionError("no error was raised")

    return run
