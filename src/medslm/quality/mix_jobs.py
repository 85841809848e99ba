"""What is validated before anything is trained on it: the training set of every variant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medslm.data.records import Example
from medslm.data.variants import Variant, asks_of
from medslm.files import read_jsonl
from medslm.quality.parts import parts_of
from medslm.quality.reports import Job
from medslm.quality.settings import MixParams
from medslm.quality.suites import mixes


def mix_jobs(
    *, mix: Path, split: Path, variants: Mapping[str, Variant], knobs: MixParams
) -> list[Job]:
    """Return the suite on the training set of every variant."""
    parts = parts_of(split)
    unlabelled, test = ({q.pmid for q in parts[part]} for part in ("unlabelled", "test"))
    return [
        Job(
            "mixes",
            name,
            mixes.table(
                read_jsonl(mix / f"{name}.jsonl", Example),
                train=parts["train"],
                unlabelled=unlabelled,
                test=test,
            ),
            mixes.suite(
                asks=asks_of(variant),
                real=parts["train"],
                max_answer_share=knobs.max_answer_share,
            ),
        )
        for name, variant in variants.items()
    ]
