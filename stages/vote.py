"""vote: let a verifier answer the generated questions blind, and measure the verifier itself."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Pair, Question
from medslm.errors import stage
from medslm.files import read_jsonl, write_json, write_jsonl
from medslm.params import load_section
from medslm.quality.settings import VerifierParams
from medslm.quality.vote import Vote, agreement, ballots, measure

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
    from medslm.student.scoring import Scorer

    loaded = load_causal_lm(knobs.model, revision=knobs.revision, dtype=knobs.dtype)
    score = Scorer(loaded, max_tokens=knobs.max_tokens, batch_size=knobs.batch_size).probabilities
    bound = knobs.abstain_below
    measured = measure(labelled, score=score, sample=knobs.measured_on, abstain_below=bound)
    votes = ballots(candidates, sources, score=score, verifier=loaded.base_id, abstain_below=bound)
    claimed = [Vote(p.answer, b.answer) for p, b in zip(candidates, votes, strict=True)]
    found = {"verifier": loaded.base_id, "on_gold": measured, "on_claims": agreement(claimed)}

    write_jsonl(out, votes)
    write_json(metrics, found)
    log.info(
        "%d ballots; the verifier agrees with gold on %d of %d answered (%d asked), kappa %s",
        *(len(votes), measured["agreed"], measured["answered"], measured["n"], measured["kappa"]),
    )


if __name__ == "__main__":
    main()
