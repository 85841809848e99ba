"""Answer questions with a causal LM: one pass, the log-probability of yes, no and maybe at one position."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS, Answer
from medslm.errors import DataError, Diverged, ParamsError
from medslm.models import Loaded
from medslm.student.attention import use_blocks
from medslm.student.labels import (
    LabelTree,
    OutputLayer,
    causal_lm,
    log_likelihoods,
    require_sharing,
)
from medslm.student.last_layer import answer_only
from medslm.student.memory import keep_freed_memory
from medslm.student.methods import load_tuned, prefix_cache, virtual_tokens
from medslm.student.norms import fuse_norms
from medslm.student.padding import padded_ids
from medslm.student.progress import Progress
from medslm.student.prompting import encode, label_tokens
from medslm.student.tensors import first_not_finite, read_tensors

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
                logits = self.logits([prompts[i] for i in chosen])
                rows = torch.log_softmax(logits, dim=-1).exp().tolist()
                for i, row in zip(chosen, rows, strict=True):
                    result[i] = rounded(row)
                progress.add(len(chosen))
        return result

    def logits(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Return the logits of one batch, shape (prompts, 3), all layers run."""
        return self.head.logits(prompts)


class AnswerHead:
    """The logits of the three answers at the end of a prompt; body and head of any Hugging Face causal LM.

    One token per answer: their logits at one position. Several: the log-likelihoods of their tokens,
    whose softmax over the answers is the same thing.

    With ``whole_vocabulary`` those of all other tokens follow them: a loss over all columns is then
    the model's own negative log-likelihood of the answer.
    """

    def __init__(self, loaded: Loaded, *, whole_vocabulary: bool = False) -> None:
        import torch

        self.model = loaded.model
        self.lm = causal_lm(self.model)
        keep_freed_memory()
        use_blocks(self.lm)
        fuse_norms(self.lm)
        self.body = self.lm.base_model
        self.output = OutputLayer(self.lm)
        labels = list(label_tokens(loaded.tokenizer).values())
        self.tree = LabelTree(labels)
        require_sharing(self.lm, self.tree)
        device = self.lm.get_output_embeddings().weight.device
        chosen = [ids[0] for ids in labels]
        if whole_vocabulary:
            if not self.one_token:
                raise ParamsError(
                    "tune.objective: full-vocabulary needs answers of one token, and this tokenizer "
                    "splits one; set it to three-way"
                )
            rows = len(self.lm.get_output_embeddings().weight)
            chosen += sorted(set(range(rows)) - set(chosen))
        self.label_index = torch.tensor(chosen, device=device)
        limit = getattr(self.lm.config.get_text_config(), "max_position_embeddings", None)
        self.room = None if limit is None else limit - virtual_tokens(self.model)

    @property
    def one_token(self) -> bool:
        """True if each answer is one token, so that the body's output alone gives its logits."""
        return not self.tree.nodes

    @property
    def label_weight(self) -> Any:
        """The head's rows of the three answers' first tokens, fp32; they move if the head is trained."""
        return self.output.weight(self.label_index)

    def logits(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Return fp32 logits, shape (prompts, 3), in the order yes, no, maybe.

        Raises DataError if a prompt is longer than the model has positions.
        """
        lengths = [len(p) for p in prompts]
        self.require_room(lengths)
        ids = padded_ids(prompts, self.room).to(self.label_index.device)
        prefix = prefix_cache(self.model, len(lengths))
        if not self.one_token:
            return log_likelihoods(self.lm, self.tree, ids, lengths, prefix)
        past = {} if prefix is None else {"past_key_values": prefix}
        with answer_only(self.body, lengths):
            hidden = self.body(input_ids=ids, use_cache=False, **past).last_hidden_state
        return self.answer_logits(hidden, lengths)

    def require_room(self, lengths: Sequence[int]) -> None:
        """Raise DataError if a prompt of such a length and its answer do not fit the model's positions."""
        if self.room is not None and max(lengths) + self.tree.depth > self.room:
            raise DataError(
                f"a prompt has {max(lengths)} tokens and the model room for {self.room - self.tree.depth}: "
                "lower student.max_tokens to that"
            )

    def answer_logits(self, hidden: Any, lengths: Sequence[int]) -> Any:
        """Return the logits from the body's output (prompts, width, features) and prompt lengths.

        Only for one token per answer.
        """
        import torch

        device = self.label_index.device
        last = torch.tensor(lengths, device=device) - 1
        answer = hidden[torch.arange(len(lengths), device=device), last]
        return self.output.some(answer, self.label_index)


def with_adapter(loaded: Loaded, folder: Path) -> Loaded:
    """Return the model with what is saved in ``folder``, of any method; the base must be freshly loaded.

    Raises Diverged if a tensor of it is not finite.
    """
    file = folder / "adapter_model.safetensors"
    if name := first_not_finite(read_tensors(file)):
        raise Diverged(f"{file}: {name} is not finite: train this cell again")
    return dataclasses.replace(loaded, model=load_tuned(loaded.model, folder))


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


def rounded(row: list[float]) -> dict[Answer, float]:
    """Six digits are more than bf16 carries, and keep files small."""
    if not all(math.isfinite(value) for value in row):
        raise Diverged(
            "the model's answer probabilities are not finite; the adapter or base is damaged"
        )
    return {answer: round(value, 6) for answer, value in zip(ANSWERS, row, strict=True)}
