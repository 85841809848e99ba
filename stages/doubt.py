"""doubt: let a probe that never saw a pair's study say where the claimed answer is likely wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from medslm.data.records import ANSWERS, Pair, Question
from medslm.errors import stage
from medslm.files import read_jsonl, write_json, write_jsonl
from medslm.params import load_all, load_section
from medslm.quality.doubt import Sample, doubts, judge, measure, summarise, trusted
from medslm.quality.settings import DoubtParams, VerifierParams
from medslm.quality.vote import asked_about

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--checked", type=click.Path(path_type=Path), required=True, help="Folder of check.")
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path, checked: Path, train: Path, unlabelled: Path, out: Path, metrics: Path
) -> None:
    """Write what the probe thinks of every kept pair of all asks, and what it is worth itself."""
    knobs = load_section(params, "quality.doubt", DoubtParams)
    verifier = load_section(params, "quality.verifier", VerifierParams)
    asks = load_all(params, "asks", dict[str, Any])
    if not knobs.enabled:
        write_jsonl(out, [])
        write_json(metrics, {"enabled": False})
        log.info("quality.doubt is not enabled: nothing is doubted")
        return
    labelled = read_jsonl(train, Question)
    sources = [*labelled, *read_jsonl(unlabelled, Question)]
    rows: list[tuple[Sample, tuple[str, str]]] = [
        (Sample(f"real:{q.pmid}", q.pmid, q.answer, None, None), (q.context, q.question))
        for q in labelled
        if q.answer is not None
    ]
    for ask in asks:
        kept = read_jsonl(checked / ask / "kept.jsonl", Pair)
        samples = [Sample(f"pair:{p.id}", p.pmid, p.answer, p.id, ask) for p in kept]
        rows += zip(samples, asked_about(kept, sources), strict=True)
    rows.sort(key=lambda row: row[0].id)
    samples = [sample for sample, _ in rows]

    from medslm.models import load_causal_lm
    from medslm.student.shared_scoring import SharedScorer

    loaded = load_causal_lm(verifier.model, revision=verifier.revision, dtype=verifier.dtype)
    scorer = SharedScorer(loaded, max_tokens=verifier.max_tokens, batch_size=verifier.batch_size)
    prompts = scorer.encoded([(*asked, ANSWERS) for _, asked in rows])
    states = scorer.states(prompts).float().cpu().numpy()

    judged = judge(samples, states, folds=knobs.folds, strength=knobs.strength)
    worth = measure(samples, judged)
    found = doubts(samples, judged, believed=trusted(worth))
    counts = summarise(samples, judged, found)

    write_jsonl(out, found)
    body = {"enabled": True, "model": loaded.base_id, "trusted": trusted(worth)}
    cut = {"n": len(prompts), "cut": scorer.cut}
    write_json(metrics, {**body, "on_gold": worth, "pairs": counts, "prompts": cut})
    log.info(
        "%d of %d pairs suspected, %d doubted; the probe is right on %s of %d real questions",
        *(counts["suspected"], counts["n"], counts["doubted"], worth["accuracy"], worth["n"]),
    )


if __name__ == "__main__":
    main()
