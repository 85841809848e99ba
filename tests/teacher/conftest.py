from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.teacher.fake_endpoint import FakeEndpoint, serving


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with serving() as running:
        yield running
