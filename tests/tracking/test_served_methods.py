"""A registered student answers as it was scored, by whatever method it was tuned."""

from __future__ import annotations

from pathlib import Path

import pytest

from medslm.data.records import ANSWERS
from medslm.files import write_json
from medslm.models import load_causal_lm
from medslm.student.lora import adapter_tensors, save_adapter
from medslm.student.methods import take_off, tunable
from medslm.student.prompting import PROMPT_ID
from medslm.student.scoring import Scorer, with_adapter
from medslm.student.settings import TuneParams
from medslm.tracking import adapters
from medslm.tracking.adapters import Student
from medslm.tracking.serving import Served
from tests.student.test_tuning import TUNE

ITEMS = [("Stay was 4.1 days.", "Is it?"), ("Of 120 adults 60 went home.", "Was it no?")]
METHODS = {
    "dora": {"method": "dora"},
    "prefix": {"method": "prefix", "prefix_init": "text"},
    "full": {"method": "full", "layers": "all"},
    "full-top": {"method": "full", "layers": "top-1"},
}


@pytest.mark.parametrize("method", METHODS)
def test_two_cells_of_any_method_are_served_as_their_mean(
    tiny_llama: Path, tmp_path: Path, method: str
) -> None:
    import torch

    base = load_causal_lm(str(tiny_llama), revision=None, dtype="float32")
    knobs = TuneParams(**{**TUNE, **METHODS[method]})
    alone = []
    for seed in (0, 1):
        cell = tmp_path / "trained" / f"fold0-seed{seed}"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = tunable(base, knobs)
            made = {k: v + 0.2 * torch.randn_like(v) for k, v in adapter_tensors(model).items()}
        save_adapter(cell, model, made, base.base_id)
        take_off(model)
        tuned = with_adapter(base, cell)
        alone.append(Scorer(tuned, max_tokens=200, batch_size=2).probabilities(ITEMS))
        take_off(tuned.model)
    write_json(tmp_path / "trained" / "card.json", {"base_sha256": base.base_sha256})
    student = Student(
        str(tiny_llama), None, base.base_sha256, "float32", PROMPT_ID, ANSWERS, 200, 2
    )

    packed = adapters.pack(tmp_path / "trained", tmp_path / "packed", student)
    found = Served(tmp_path / "packed", packed).probabilities(ITEMS)

    for i, row in enumerate(found):
        for answer in ANSWERS:
            mean = (alone[0][i][answer] + alone[1][i][answer]) / 2
            assert row[answer] == pytest.approx(mean, abs=1e-6)
    assert alone[0] != alone[1]  # control: the cells do differ
