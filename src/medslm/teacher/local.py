"""The teacher that runs in this process: a causal LM continues few-shot prompts in batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from medslm.errors import ParamsError
from medslm.files import sha256_of_json
from medslm.models import Dtype, Loaded, Source, find, load_causal_lm
from medslm.params import Section
from medslm.teacher.generation import Generator, Job, Text, shared_prefix
from medslm.teacher.grammars import grammar_for
from medslm.teacher.prompts import Style
from medslm.teacher.replies import Journal, Reply
from medslm.teacher.requests import Request


class LocalParams(Section):
    """A causal LM in this process. Temperature 0 always takes the likeliest token."""

    backend: Literal["local"]
    model: Annotated[str, Field(min_length=1)]
    revision: str | None
    dtype: Dtype
    style: Style
    constrained: bool
    temperature: Annotated[float, Field(ge=0, le=2)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    max_failed_share: Annotated[float, Field(ge=0, le=1)]


class Local:
    """Generates with a model that is loaded when there is work.

    A reply depends on its own request alone, up to floating-point rounding, which the other rows of
    a batch can change: exact in fp32 in all our tests, not promised in bf16.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None,
        dtype: Dtype,
        batch_size: int,
        style: Style,
        constrained: bool,
    ) -> None:
        self._model = model
        self._revision = revision
        self._dtype = dtype
        self._batch_size = batch_size
        self._style = style
        self._constrained = constrained

    def identity(self, strategy: str) -> dict[str, object]:
        """Return the weights' id and hash, and the hash of the grammar that replies are held to.

        Batch size is left out because it shapes no reply.
        """
        grammar = self._grammar(strategy)
        return {
            "backend": "local",
            "base_id": self._source.base_id,
            "base_sha256": self._source.base_sha256,
            "dtype": self._dtype,
            "grammar": None if grammar is None else sha256_of_json(grammar),
        }

    def answer(self, requests: Sequence[Request], journal: Journal) -> Iterator[Sequence[Reply]]:
        """Yield replies batch by batch, longest prompts first: memory runs out early if it does.

        A prompt that does not fit the model fails with reason "prompt_too_long".
        """
        del journal  # what runs here costs nothing
        loaded = load_causal_lm(self._model, revision=self._revision, dtype=self._dtype)
        tokens = {r.key: self._tokens(loaded.tokenizer, r) for r in requests}
        limit = getattr(loaded.model.config, "max_position_embeddings", None)
        fitting, failed = [], []
        for request in requests:
            if limit is not None and len(tokens[request.key]) + _max_tokens(request) > limit:
                failed.append(self._reply(request, None, len(tokens[request.key]), loaded))
            else:
                fitting.append(request)
        if failed:
            yield failed
        # Equal prompts become neighbours: a batch computes each distinct one once.
        fitting.sort(key=lambda r: (-len(tokens[r.key]), tokens[r.key], r.key))
        prefix = shared_prefix([tokens[r.key] for r in fitting])
        generator = Generator(loaded.model, loaded.tokenizer, prefix)
        for start in range(0, len(fitting), self._batch_size):
            batch = fitting[start : start + self._batch_size]
            texts = generator.run([self._job(r, tokens[r.key]) for r in batch])
            yield [
                self._reply(request, text, len(tokens[request.key]), loaded)
                for request, text in zip(batch, texts, strict=True)
            ]

    @cached_property
    def _source(self) -> Source:
        return find(self._model, self._revision)

    def _grammar(self, strategy: str) -> str | None:
        return grammar_for(strategy, self._style) if self._constrained else None

    def _tokens(self, tokenizer: Any, request: Request) -> tuple[int, ...]:
        if self._style == "completion":
            text = "\n\n".join(message.content for message in request.messages)
            return tuple(tokenizer(text)["input_ids"])
        if not tokenizer.chat_template:
            raise ParamsError(
                f"model {self._model}: its tokenizer has no chat template; set style: completion"
            )
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        # The template writes the special tokens itself.
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _job(self, request: Request, tokens: tuple[int, ...]) -> Job:
        sampling = request.sampling
        return Job(
            tokens=tokens,
            temperature=1.0 if sampling.temperature is None else sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            max_tokens=_max_tokens(request),
            seed=sampling.seed,
            stop=sampling.stop,
            grammar=self._grammar(request.strategy),
        )

    def _reply(
        self, request: Request, text: Text | None, prompt_tokens: int, loaded: Loaded
    ) -> Reply:
        """Return what was written, or without a text that the prompt was too long."""
        written = 0 if text is None else text.tokens
        return Reply(
            key=request.key,
            content=None if text is None else text.text,
            finish_reason="prompt_too_long" if text is None else text.finish_reason,
            usage={"prompt_tokens": prompt_tokens, "completion_tokens": written},
            served_model=loaded.base_id,
            created=int(time.time()),
            structured=self._grammar(request.strategy) is not None,
        )


def _max_tokens(request: Request) -> int:
    if request.sampling.max_tokens is None:
        raise ValueError("a local request needs max_tokens")
    return request.sampling.max_tokens
