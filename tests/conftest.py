"""Every test runs in a folder, with an environment, of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import browser as chromium
from tests.tiny import make_tiny_llama

# The same examples every time; slow first calls (imports) are not failures.
settings.register_profile("project", derandomize=True, deadline=None, database=None)
settings.load_profile("project")

# The heaviest libraries share two cores between workers; more threads than one make tests slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
}


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "MLFLOW_", "DVC_")):
            monkeypatch.delenv(name)
    for name, value in _QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site-cache"))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random four-layer Llama."""
    return make_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """A headless Chromium; tests that need it are skipped by name where none is installed."""
    program = chromium.find()
    if program is None:
        pytest.skip(f"none of {', '.join(chromium.NAMES)} is installed")
    running = chromium.Browser(program, tmp_path_factory.mktemp("chromium"))
    yield running
    running.close()


@pytest.fixture
def real_pubmedqa() -> Path:
    """The real PQA-L file; tests that need it are skipped by name where it is not at hand."""
    path = os.environ.get("MEDSLM_PUBMEDQA")
    if not path:
        pytest.skip("MEDSLM_PUBMEDQA does not name a copy of ori_pqal.json")
    return Path(path)
