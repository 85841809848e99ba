"""lm-evaluation-harness on our prompts and choices; run by the peers' own interpreter.

Its Hugging Face backend merges choices of one token into one pass. Prints one line of JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path

TASK = """
task: medslm_pubmedqa
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: ["yes", "no", "maybe"]
doc_to_target: answer
target_delimiter: " "
metric_list:
  - metric: acc
"""


def main():
    """Score once and print seconds and the answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    flags = parser.parse_args()
    folder = Path(flags.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.yaml").write_text(TASK.format(file=flags.prompts), encoding="utf-8")

    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=flags.model, dtype=flags.dtype, device="cpu", batch_size=flags.batch)
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    started = time.perf_counter()
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=["medslm_pubmedqa"],
        task_manager=tasks,
        bootstrap_iters=0,
        log_samples=True,
    )
    seconds = time.perf_counter() - started
    answers = {}
    for sample in found["samples"]["medslm_pubmedqa"]:
        likelihoods = [response[0] for response in sample["filtered_resps"]]
        best = max(range(3), key=lambda i: likelihoods[i])
        answers[sample["doc_id"]] = ("yes", "no", "maybe")[best]
    figures = {
        "seconds": seconds,
        "examples": len(answers),
        "answers": [answers[i] for i in sorted(answers)],
    }
    sys.stdout.write("\n" + json.dumps(figures))


if __name__ == "__main__":
    main()
