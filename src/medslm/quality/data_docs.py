"""Great Expectations' own pages (Data Docs) of suites, on demand and never in the pipeline.

Data Docs of Great Expectations 1.24 put values into the page as they are: a `<script>` in a question
that broke an expectation runs when the page is opened. Here every text of a result is escaped before
it is rendered, and a policy in the page forbids all scripts. Layout and fonts still come from hosts on
the internet, so the pages are not for private data; the pipeline's own reports need none.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medslm.data.variants import Variants
from medslm.errors import DataError
from medslm.files import writing_folder
from medslm.params import load_all, load_section
from medslm.quality.expectations import always, validation
from medslm.quality.input_jobs import input_jobs
from medslm.quality.mix_jobs import mix_jobs
from medslm.quality.prediction_jobs import prediction_jobs
from medslm.quality.reports import Job
from medslm.quality.settings import InputParams, MixParams, PredictionParams
from medslm.quality.verdict import BASELINES

_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="'
    "default-src 'none'; style-src 'unsafe-inline' https:; font-src https:; img-src https: data:\">"
)
_HEAD = "<head>"


def jobs_of(what: str, params: Path, data: Path) -> list[Job]:
    """Return what the stage ``validate_<what>`` looks at, read from the pipeline's folders."""
    variants = load_all(params, "variants", Variants)
    if what == "inputs":
        asks = load_all(params, "asks", dict[str, dict[str, Any]])
        return input_jobs(
            raw_folder=data / "raw",
            split=data / "split",
            replies_folder=data / "replies",
            asks={ask: str(entry["strategy"]) for ask, entry in asks.items()},
            knobs=load_section(params, "quality.inputs", InputParams),
        )
    if what == "mixes":
        mixes = load_section(params, "quality.mixes", MixParams)
        return mix_jobs(mix=data / "mix", split=data / "split", variants=variants, knobs=mixes)
    return prediction_jobs(
        folder=data / "predictions",
        split=data / "split",
        names=[*variants, *BASELINES],
        knobs=load_section(params, "quality.predictions", PredictionParams),
    )


def write_data_docs(folder: Path, jobs: Iterable[Job]) -> list[str]:
    """Write one page per suite and subject, a new folder in place of an old one; return their names."""
    names = []
    with writing_folder(folder) as partial:
        for job in jobs:
            names.append(f"{job.suite}-{job.subject}.html")
            (partial / names[-1]).write_text(page(job), encoding="utf-8", newline="\n")
    return names


def page(job: Job) -> str:
    """Return one page: nothing in it that came from the data is anything but text."""
    result = validation(job.table, [*always(job.table), *job.expected])
    return _rendered(_escaped(result.to_json_dict()))


def _escaped(value: Any) -> Any:
    """Return plain values with every text, also those that are keys, made harmless in HTML."""
    if isinstance(value, dict):
        return {_escaped(key): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return html.escape(value) if isinstance(value, str) else value


def _rendered(result: dict[str, Any]) -> str:
    from great_expectations.core.expectation_validation_result import (
        expectationSuiteValidationResultSchema,
    )
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    loaded = expectationSuiteValidationResultSchema.load(result)
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(loaded)
    text = str(DefaultJinjaPageView().render(document))
    if _HEAD not in text:
        raise DataError("Great Expectations' page has no head to put the policy into; not written")
    return text.replace(_HEAD, _HEAD + _POLICY, 1)
