"""The peer curator (bespokelabs-curator 0.1.31): one prompt per row, run by its own interpreter.

Imports nothing of this project: it runs in curator's virtual environment.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any


def main() -> None:
    """Ask every row of --prompts and write what curator's dataset holds to --out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--system", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--rpm", type=int)
    flags = parser.parse_args()
    _offline()

    from bespokelabs import curator  # type: ignore[import-not-found,unused-ignore]

    class Asked(curator.LLM):  # type: ignore[misc,unused-ignore]
        def prompt(self, row: dict[str, Any]) -> str:
            return str(row["user"])

        def parse(self, row: dict[str, Any], response: str) -> dict[str, str]:
            return {"id": row["id"], "reply": response}

    limits = {} if flags.rpm is None else {"max_requests_per_minute": flags.rpm}
    asked = Asked(
        model_name="bench-model",
        backend="openai",
        system_prompt=flags.system,
        backend_params={
            "base_url": flags.url,
            "max_concurrent_requests": flags.in_flight,
            "max_tokens_per_minute": 10_000_000_000,
            # By default one failed row means no rows at all.
            "require_all_responses": False,
            **limits,
        },
    )
    rows = [json.loads(line) for line in flags.prompts.read_text(encoding="utf-8").splitlines()]
    answered = asked(rows, working_dir=str(flags.work)).dataset
    with flags.out.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in answered)


def _offline() -> None:
    """Keep curator on this machine: no telemetry, no viewer, tiktoken's table from litellm's copy."""
    from importlib.util import find_spec

    litellm = find_spec("litellm")
    assert litellm is not None
    assert litellm.origin is not None
    tables = Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ.update(
        TELEMETRY_ENABLED="false",
        CURATOR_VIEWER="0",
        CURATOR_DISABLE_RICH_DISPLAY="1",
        OPENAI_API_KEY="bench",
        TIKTOKEN_CACHE_DIR=str(tables),
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )


if __name__ == "__main__":
    main()
