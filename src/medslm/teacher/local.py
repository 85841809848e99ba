"""The teacher that runs in this process: a causal LM continues few-shot prompts in batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from medslm.models import Dtype, find, load_causal_lm
from medslm.params import Section
from medslm.teacher.generation import Generator, Job, shared_prefix
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request

log = logging.getLogger(__name__)


class LocalParams(Section):
    """A causal LM in this process. Temperature 0 always takes the likeliest token."""

    backend: Literal["local"]
    model: Annotated[str, Field(min_length=1)]
    revision: str | None
    dtype: Dtype
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

    def __init__(self, model: str, *, revision: str | None, dtype: Dtype, batch_size: int) -> None:
        self._model = model
        self._revision = revision
        self._dtype = dtype
        self._batch_size = batch_size

    def identity(self) -> dict[str, object]:
        """Return the weights' id and hash; batch size is left out because it shapes no reply."""
        source = find(self._model, self._revision)
        return {
            "backend": "local",
            "base_id": source.base_id,
            "base_sha256": source.base_sha256,
            "dtype": self._dtype,
        }

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yield replies batch by batch, longest prompts first: memory runs out early if it does.

        A prompt that does not fit the model fails with reason "prompt_too_long".
        """
        loaded = load_causal_lm(self._model, revision=self._revision, dtype=self._dtype)
        tokens = {r.key: _tokens(loaded.tokenizer, r) for r in requests}
        limit = getattr(loaded.model.config, "max_position_embeddings", None)
        fitting = []
        for request in requests:
            if limit is not None and len(tokens[request.key]) + _max_tokens(request) > limit:
                yield Reply(
                    request.key, None, "prompt_too_long", None, loaded.base_id, int(time.time())
                )
            else:
                fitting.append(request)
        # Equal prompts become neighbours: a batch computes each distinct one once.
        fitting.sort(key=lambda r: (-len(tokens[r.key]), tokens[r.key], r.key))
        prefix = shared_prefix([tokens[r.key] for r in fitting])
        generator = Generator(loaded.model, loaded.tokenizer, prefix)
        for start in range(0, len(fitting), self._batch_size):
            batch = fitting[start : start + self._batch_size]
            texts = generator.run([_job(r, tokens[r.key]) for r in batch])
            for request, text in zip(batch, texts, strict=True):
                yield Reply(
                    key=request.key,
                    content=text.text,
                    finish_reason=text.finish_reason,
                    usage={
                        "prompt_tokens": len(tokens[request.key]),
                        "completion_tokens": text.tokens,
                    },
                    served_model=loaded.base_id,
                    created=int(time.time()),
                )


def _tokens(tokenizer: object, request: Request) -> tuple[int, ...]:
    text = "\n\n".join(message.content for message in request.messages)
    return tuple(tokenizer(text)["input_ids"])  # type: ignore[operator]  # transformers is untyped


def _max_tokens(request: Request) -> int:
    if request.sampling.max_tokens is None:
        raise ValueError("a local request needs max_tokens")
    return request.sampling.max_tokens


def _job(request: Request, tokens: tuple[int, ...]) -> Job:
    sampling = request.sampling
    return Job(
        tokens=tokens,
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        max_tokens=_max_tokens(request),
        seed=sampling.seed,
        stop=sampling.stop,
    )
