"""The section `quality` of params.yaml, one class per stage that reads a part of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from medslm.params import Section

Share = Annotated[float, Field(ge=0, le=1)]
Bound = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class VerifierParams(Section):
    """Which model votes and how; params.yaml says what each knob does."""

    model: Annotated[str, Field(min_length=1)]
    revision: str | None
    dtype: Literal["auto", "float32", "bfloat16"]
    max_tokens: Annotated[int, Field(ge=64)]
    batch_size: Count
    votes: Annotated[int, Field(ge=1, le=6)]
    abstain_below: Share
    measured_on: Count


class RuleParams(Section):
    """When a pair is dropped; params.yaml says what each knob does."""

    min_words: Count
    max_words: Count
    near_identical: Annotated[float, Field(gt=0, le=1)]
    near_duplicate: Annotated[float, Field(gt=0, le=1)]
    copied_words: Annotated[int, Field(ge=2)]
    min_overlap: Share
    min_grounding: Share
    require_long_answer: bool
    min_support: Share | None
    leak_overlap: Annotated[float, Field(gt=0, le=1)]
    max_edit_share: Annotated[float, Field(gt=0, le=1)]


class InputParams(Section):
    """What raw questions, parts and replies have to be; params.yaml says what each knob does."""

    min_questions: Count
    max_answer_share: Annotated[float, Field(gt=0, le=1)]
    min_question_chars: Count
    max_question_chars: Count
    min_context_chars: Count
    max_failed_share: Share
    max_cut_share: Share
    max_repeated_share: Share

    def raw(self) -> dict[str, Any]:
        """Return the knobs of the suite on raw questions."""
        return self.model_dump(exclude=_OF_REPLIES)

    def replies(self) -> dict[str, Any]:
        """Return the knobs of the suite on replies."""
        return self.model_dump(include=_OF_REPLIES)


_OF_REPLIES = {"max_failed_share", "max_cut_share", "max_repeated_share"}


class MixParams(Section):
    """What the training set of a variant has to be; params.yaml says what each knob does."""

    max_answer_share: Annotated[float, Field(gt=0, le=1)]


class PredictionParams(Section):
    """What predictions have to be; params.yaml says what each knob does."""

    max_answer_share: Annotated[float, Field(gt=0, le=1)]
    max_unanswered_share: Share


class DoubtParams(Section):
    """How claimed answers are doubted by a probe; params.yaml says what each knob does."""

    enabled: bool
    folds: Annotated[int, Field(ge=2)]
    strength: Annotated[float, Field(gt=0)]


class LeakageParams(Section):
    """When a text repeats a held-out one; params.yaml says what each knob does."""

    hit_letters: Bound
    near_letters: Bound
    hit_runs: Bound
    near_runs: Bound
    embeddings: bool
    hit_cosine: Bound
    near_cosine: Bound
    acknowledged: list[str]

    @model_validator(mode="after")
    def _hits_are_near(self) -> LeakageParams:
        """A hit is nearer than near."""
        for name in ("letters", "runs", "cosine"):
            if getattr(self, f"hit_{name}") < getattr(self, f"near_{name}"):
                raise ValueError(f"hit_{name} is below near_{name}: a hit has to be the closer one")
        return self


class ExpectationParams(Section):
    """What the kept pairs of an ask have to be as a whole; params.yaml says what each knob does."""

    min_kept: dict[str, Count]
    max_answer_share: Annotated[float, Field(gt=0, le=1)]
    balance_severity: Literal["critical", "warning"]
    min_question_chars: Count
    max_question_chars: Count
    min_context_chars: Count
