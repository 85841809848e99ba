"""A filled project for every tracking test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracking.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project").fill()
