"""A registered student at work: verified adapters on a verified base, answering questions."""

# no `from __future__ import annotations`: MLflow has to resolve the hint of Pyfunc.predict

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS, Answer
from medslm.errors import DataError, IntegrityError
from medslm.models import load_causal_lm
from medslm.student.methods import load_beside, use
from medslm.student.prompting import PROMPT_ID
from medslm.student.scoring import Scorer, best_answer, with_adapter
from medslm.tracking import adapters


class Served:
    """A student of one or more adapters on one base; their probabilities are averaged, as when scored."""

    def __init__(self, folder: Path, manifest_sha256: str) -> None:
        """Verify the package and load it; IntegrityError if a byte, the base or the prompt is another."""
        student = adapters.verify(folder, manifest_sha256)
        adapters.require_spoken(student, PROMPT_ID)
        base = load_causal_lm(
            student.base_model,
            revision=student.base_revision,
            dtype=student.dtype,
            quantize=student.quantize,
        )
        if base.base_sha256 != student.base_sha256:
            raise IntegrityError(
                f"base model {student.base_model}: {base.base_sha256} is here, the adapters were trained on "
                f"{student.base_sha256}; fetch that one"
            )
        first, *others = adapters.cells(folder)
        loaded = with_adapter(base, first)
        self.names = ["default"]
        for cell in others:
            load_beside(loaded.model, cell, cell.name)
            self.names.append(cell.name)
        loaded.model.eval()
        self.model = loaded.model
        self.scorer = Scorer(loaded, max_tokens=student.max_tokens, batch_size=student.batch_size)

    def probabilities(self, items: Sequence[tuple[str, str]]) -> list[dict[Answer, float]]:
        """Return, per (context, question), probabilities of yes, no and maybe that sum to 1."""
        per_cell = []
        for name in self.names:
            use(self.model, name)
            per_cell.append(self.scorer.probabilities(items))
        return [
            # fsum, as the recorded answers are pooled: the last digit does not hang on the order of cells
            {a: round(math.fsum(c[i][a] for c in per_cell) / len(per_cell), 6) for a in ANSWERS}
            for i in range(len(items))
        ]


def answers(
    served: Served, rows: Sequence[Mapping[Hashable, Any]]
) -> list[dict[str, float | Answer]]:
    """Return one row yes, no, maybe, answer per row question, context; DataError for an empty one."""
    for number, row in enumerate(rows):
        for column in ("question", "context"):
            if not isinstance(row[column], str) or not row[column].strip():
                raise DataError(
                    f"row {number}: {column} is empty; both a question and its abstract are needed"
                )
    found = served.probabilities([(row["context"], row["question"]) for row in rows])
    return [{**{a: p[a] for a in ANSWERS}, "answer": best_answer(p)} for p in found]


def register() -> None:
    """Hand MLflow the model object; called by the code file that lies in every registered version."""
    import mlflow.models
    import mlflow.pyfunc
    import pandas as pd

    class Pyfunc(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is not followed by mypy
        """MLflow's view of a served student."""

        def load_context(self, context: Any) -> None:
            folder = Path(context.artifacts["adapters"])
            self.served = Served(folder, context.model_config["manifest_sha256"])

        def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
            rows = answers(self.served, model_input[["question", "context"]].to_dict("records"))
            return pd.DataFrame(rows, columns=[*ANSWERS, "answer"])

    mlflow.models.set_model(Pyfunc())
