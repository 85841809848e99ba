"""TRL's SFTTrainer at its best settings for short answers; run by the peers' own interpreter.

Loss on the completion only, batches of similar length, no gradient checkpointing, weights and products
in bf16, LoRA as ours. Prints one line of JSON.
"""

import argparse
import json
import resource
import sys
from pathlib import Path


def main():
    """Train once and print seconds and the mean loss."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    flags = parser.parse_args()

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    with Path(flags.prompts).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    data = Dataset.from_list([{k: row[k] for k in ("prompt", "completion")} for row in rows])
    config = SFTConfig(
        output_dir=flags.out,
        num_train_epochs=flags.epochs,
        per_device_train_batch_size=flags.batch,
        learning_rate=5e-4,
        warmup_steps=0.1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        max_length=1024,
        completion_only_loss=True,
        train_sampling_strategy="group_by_length",
        gradient_checkpointing=False,
        bf16=True,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="epoch",
        disable_tqdm=True,
        seed=0,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(flags.model, dtype=torch.bfloat16),
        args=config,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(flags.model),
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    done = trainer.train()
    figures = {
        "seconds": done.metrics["train_runtime"],
        "examples": len(rows) * flags.epochs,
        "loss": done.metrics["train_loss"],
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    sys.stdout.write("\n" + json.dumps(figures))


if __name__ == "__main__":
    main()
