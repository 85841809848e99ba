"""Answer questions with a causal LM: one pass, the log-probability of yes, no and maybe at one position."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS, Answer
from medslm.errors import Diverged
from medslm.models import Loaded
from medslm.student.lora import peft_silenced
from medslm.student.padding import padded_ids
from medslm.student.progress import Progress
from medslm.student.prompting import encode, label_ids

log = logging.getLogger(__name__)


class Scorer:
    """Scores (context, question) pairs with one model; batch size and order change no answer in fp32."""

    def __init__(self, loaded: Loaded, *, max_tokens: int, batch_size: int) -> None:
        self.head = AnswerHead(loaded)
        self.tokenizer = loaded.tokenizer
        self.max_tokens = max_tokens
        self.batch_size = batch_size

    def probabilities(self, items: Sequence[tuple[str, str]]) -> list[dict[Answer, float]]:
        """Return, per (context, question), probabilities of the three answers that sum to 1.

        Raises Diverged if the model's output is not finite.
        """
        encoded = [encode(self.tokenizer, c, q, max_tokens=self.max_tokens) for c, q in items]
        warn_of_cuts([e.cut for e in encoded], self.max_tokens)
        return self.score([e.ids for e in encoded])

    def score(self, prompts: Sequence[Sequence[int]]) -> list[dict[Answer, float]]:
        """Return the probabilities for tokenised prompts, longest first inside, in the given order."""
        import torch

        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        result: list[dict[Answer, float]] = [{} for _ in prompts]
        progress = Progress("scoring", len(prompts), "prompts")
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                chosen = order[start : start + self.batch_size]
                logits = self.head.logits([prompts[i] for i in chosen])
                rows = torch.log_softmax(logits, dim=-1).exp().tolist()
                for i, row in zip(chosen, rows, strict=True):
                    result[i] = _rounded(row)
                progress.add(len(chosen))
        return result


class AnswerHead:
    """The three logits at the answer position; body and head are those of any Hugging Face causal LM."""

    def __init__(self, loaded: Loaded) -> None:
        import torch

        self.model = loaded.model
        lm = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        self.body = lm.base_model
        labels = label_ids(loaded.tokenizer)
        weight = lm.get_output_embeddings().weight
        index = torch.tensor([labels[a] for a in ANSWERS], device=weight.device)
        self.label_weight = weight.index_select(0, index).detach().float()

    def logits(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Return fp32 logits, shape (prompts, 3), in the order yes, no, maybe."""
        ids = padded_ids(prompts).to(self.label_weight.device)
        hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state
        return self.answer_logits(hidden, [len(p) for p in prompts])

    def answer_logits(self, hidden: Any, lengths: Sequence[int]) -> Any:
        """Return the logits from the body's output (prompts, width, features) and prompt lengths."""
        import torch

        device = self.label_weight.device
        last = torch.tensor(lengths, device=device) - 1
        answer = hidden[torch.arange(len(lengths), device=device), last]
        return answer.float() @ self.label_weight.T


def with_adapter(loaded: Loaded, folder: Path) -> Loaded:
    """Return the model with the LoRA adapter saved in ``folder``; the base must be freshly loaded."""
    from peft import PeftModel

    with peft_silenced():
        model = PeftModel.from_pretrained(loaded.model, str(folder), is_trainable=False)
    return dataclasses.replace(loaded, model=model.eval())


def best_answer(probabilities: dict[Answer, float]) -> Answer:
    """Return the most probable answer; of equals the first in the order yes, no, maybe."""
    return max(ANSWERS, key=lambda answer: probabilities[answer])


def warn_of_cuts(cuts: Sequence[int], max_tokens: int) -> None:
    """Log how many abstracts lost their beginning to ``max_tokens``: never silently."""
    cut = sum(1 for c in cuts if c)
    if cut:
        log.warning(
            "%d of %d abstracts are longer than student.max_tokens=%d: their beginning is cut",
            cut,
            len(cuts),
            max_tokens,
        )


def _rounded(row: list[float]) -> dict[Answer, float]:
    """Six digits are more than bf16 carries, and keep files small."""
    if not all(math.isfinite(value) for value in row):
        raise Diverged(
            "the model's answer probabilities are not finite; the adapter or base is damaged"
        )
    return {answer: round(value, 6) for answer, value in zip(ANSWERS, row, strict=True)}
