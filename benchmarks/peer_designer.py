"""The peer DataDesigner (data-designer 0.9.6): one prompt per row, run by its own interpreter.

Imports nothing of this project: it runs in DataDesigner's virtual environment.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def main() -> None:
    """Ask every row of --prompts and write what DataDesigner's dataset holds to --out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--system", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    flags = parser.parse_args()
    os.environ.update(
        NEMO_TELEMETRY_ENABLED="false",
        DATA_DESIGNER_HOME=str(flags.work / "home"),
        BENCH_KEY="bench",
    )

    import data_designer.config as dd  # type: ignore[import-not-found,unused-ignore]
    from data_designer.interface import DataDesigner  # type: ignore[import-not-found,unused-ignore]

    maker = DataDesigner(
        artifact_path=flags.work / "artifacts",
        model_providers=[
            dd.ModelProvider(name="bench", endpoint=flags.url, api_key="BENCH_KEY"),
        ],
    )
    maker.set_run_config(dd.RunConfig(otel_metrics_port=None))
    model = dd.ModelConfig(
        alias="bench",
        model="bench-model",
        provider="bench",
        inference_parameters=dd.ChatCompletionInferenceParams(
            max_parallel_requests=flags.in_flight
        ),
        skip_health_check=True,
    )
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    config.with_seed_dataset(dd.LocalFileSeedSource(path=str(flags.prompts)))
    config.add_column(
        dd.LLMTextColumnConfig(
            name="reply", prompt="{{ user }}", system_prompt=flags.system, model_alias="bench"
        )
    )
    count = len(flags.prompts.read_text(encoding="utf-8").splitlines())
    made = maker.create(
        config, num_records=count, dataset_name="bench", resume=dd.ResumeMode.IF_POSSIBLE
    )
    with flags.out.open("w", encoding="utf-8") as stream:
        for row in made.load_dataset().to_dict(orient="records"):
            stream.write(json.dumps({"id": str(row["id"]), "reply": row["reply"]}) + "\n")


if __name__ == "__main__":
    main()
