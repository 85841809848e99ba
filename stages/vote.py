"""vote: let a verifier answer the generated questions blind, and measure the verifier itself."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Pair, Question
from medslm.errors import stage
from medslm.files import read_jsonl, write_json, write_jsonl
from medslm.params import load_section
from medslm.quality.agreement import weight
from medslm.quality.settings import VerifierParams
from medslm.quality.vote import (
    asked_about,
    ballots,
    by_teacher_and_strategy,
    measure,
    on_claims,
    poll,
    real_sample,
)

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--pairs", type=click.Path(path_type=Path), required=True, help="Folder of parse.")
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path, pairs: Path, train: Path, unlabelled: Path, out: Path, metrics: Path
) -> None:
    """Read pairs and sources, write one ballot per pair and how far the verifier can be trusted."""
    knobs = load_section(params, "quality.verifier", VerifierParams)
    candidates = read_jsonl(pairs / "pairs.jsonl", Pair)
    labelled = read_jsonl(train, Question)
    sources = [*labelled, *read_jsonl(unlabelled, Question)]

    from medslm.models import load_causal_lm
    from medslm.student.shared_scoring import SharedScorer

    loaded = load_causal_lm(knobs.model, revision=knobs.revision, dtype=knobs.dtype)
    scorer = SharedScorer(loaded, max_tokens=knobs.max_tokens, batch_size=knobs.batch_size)
    gold = real_sample(labelled, knobs.measured_on)
    asked = [(question.context, question.question) for question in gold]
    # in one go: what a real and a generated question share, their abstract, is read once
    polls = poll(
        [*asked, *asked_about(candidates, sources)],
        score=scorer.asked,
        votes=knobs.votes,
        abstain_below=knobs.abstain_below,
    )
    measured = measure(gold, polls[: len(gold)])
    worth = weight(measured)
    votes = ballots(candidates, polls[len(gold) :], verifier=loaded.base_id, weight=worth)

    write_jsonl(out, votes)
    write_json(
        metrics,
        {
            "verifier": loaded.base_id,
            "votes": knobs.votes,
            "weight": worth,
            "on_gold": measured,
            "on_claims": on_claims(candidates, votes),
            "by_teacher_and_strategy": by_teacher_and_strategy(candidates, votes),
            "prompts": {"n": knobs.votes * len(polls), "cut": scorer.cut},
        },
    )
    log.info(
        "%d ballots; the verifier agrees with gold on %d of %d answered (%d asked), kappa %s: weight %s",
        *(len(votes), measured["agreed"], measured["answered"], measured["n"]),
        *(measured["kappa"], worth),
    )


if __name__ == "__main__":
    main()
