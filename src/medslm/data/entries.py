"""Which stages of a dvc.lock still belong to the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The stages that dvc.yaml makes once per entry of a section of params.yaml (a test compares them).
STAGES_OF = {
    "asks": ("ask", "parse", "vote", "check"),
    "variants": ("mix", "train", "predict", "score"),
    "answers": ("answer", "score_answers"),
}


def current(stages: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stages of a dvc.lock without those of entries that ``params`` no longer has.

    DVC leaves the stages of a removed ask, answer or variant in dvc.lock, with the hashes of the files
    as they then were.
    """
    gone = {
        name
        for section, made in STAGES_OF.items()
        for name in stages
        if name.partition("@")[0] in made
        and name.partition("@")[2] not in (params.get(section) or {})
    }
    return {name: stage for name, stage in stages.items() if name not in gone}
