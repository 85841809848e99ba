"""The vectors of all-MiniLM-L6-v2: of unit length, one per text wherever it stands, near for like texts."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from medslm.errors import IntegrityError, ParamsError
from medslm.quality import embeddings
from medslm.quality.embeddings import PACKAGE, MiniLM, require_package

needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="needs the extra `embeddings`"
)
TEXTS = ["Do walks lower pain?", "Is pain reduced by walking?", "Are turtles green?", ""]


@pytest.fixture(scope="module")
def embed():
    return MiniLM()


@needs_package
def test_like_texts_are_nearer_than_others_and_all_have_length_one(embed):
    vectors = embed(TEXTS)
    cosines = vectors @ vectors.T

    assert vectors.shape == (4, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert cosines[0, 1] > 0.75 > 0.3 > cosines[0, 2]


@needs_package
def test_a_text_has_one_vector_wherever_it_stands_and_however_often(embed):
    first = embed(TEXTS)
    again = embed([*reversed(TEXTS), TEXTS[0]])

    assert np.array_equal(first[::-1], again[:4])
    assert np.array_equal(again[4], first[0])
    assert embed([]).shape == (0, 384)


@needs_package
def test_a_changed_package_is_refused_and_nothing_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(embeddings, "ZIP_SHA256", "0" * 64)

    with pytest.raises(IntegrityError, match=r"model\.zip"):
        MiniLM()

    assert list((tmp_path / ".work" / "models").glob("*/")) == []


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(embeddings, "PACKAGE", "no_such_package")

    with pytest.raises(ParamsError, match=r"medslm\[embeddings\]"):
        require_package()
