"""The bill before asking: from params, questions and journals, with no key and nothing sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

from medslm.data.records import Question
from medslm.errors import ParamsError, work_dir
from medslm.params import load_all
from medslm.teacher.asking import Plan
from medslm.teacher.endpoint import OpenAIParams, checked_cap, checked_url
from medslm.teacher.estimate import (
    NOTHING,
    Range,
    Row,
    cost,
    minutes,
    output_tokens,
    prompt_tokens,
    shared_tokens,
    total,
    verdict,
)
from medslm.teacher.prices import (
    MODES,
    Mode,
    Price,
    listing,
    most,
    price_for,
    price_in,
    shutdown_of,
)
from medslm.teacher.questions import Part, Questions
from medslm.teacher.recorded import RecordedParams
from medslm.teacher.schemas import response_format
from medslm.teacher.settings import (
    AnswersParams,
    AskParams,
    Name,
    TeacherParams,
    load_answers,
    load_plan,
    load_teacher,
)
from medslm.teacher.store import View, read_only


@dataclass(frozen=True, slots=True)
class Bill:
    """What everything that was looked at would cost; ``remarks`` are lines, one per teacher or more."""

    rows: list[Row]
    remarks: list[str]


def read_bill(params: Path, names: Sequence[str], today: date) -> Bill:
    """Estimate the asks and answers of params.yaml, or only those that are named.

    Nothing is sent, written or locked and no key is looked up. The questions are split anew from
    the raw file, so a split that is older than params.yaml cannot mislead. Raises what asking
    would raise for a wrong setting, DataError if the questions are not here.
    """
    entries = _entries(params, names)
    data = Questions(params)
    rows: list[Row] = []
    remarks: list[str] = []
    with ExitStack() as stack:
        for teacher, used in _by_teacher(entries).items():
            section = load_teacher(params, teacher)
            if not isinstance(section, OpenAIParams):
                rows += [_unpaid(entry, data, section) for entry in used]
                continue
            view = stack.enter_context(read_only(work_dir() / "replies" / teacher))
            desk = _Desk(section, teacher, view)
            rows += [desk.row(entry.label, _plan(params, entry, data)) for entry in used]
            remarks += desk.remarks(today)
    order = [entry.label for entry in entries]
    return Bill(sorted(rows, key=lambda row: order.index(row.name)), remarks)


class _Entry(NamedTuple):
    """An entry of `asks` or `answers`, labelled like its DVC stage."""

    stage: str
    name: str
    teacher: str
    parts: tuple[Part, ...]
    per_question: int

    @property
    def label(self) -> str:
        return f"{self.stage}@{self.name}"


class _Desk:
    """One paid teacher: what its journal holds, and what its requests would cost."""

    def __init__(self, section: OpenAIParams, name: str, view: View) -> None:
        url = checked_url(section.base_url, name)
        self._section = section
        self._name = name
        self._view = view
        self._price = price_for(section, name, url)
        self._prices = dict(self._known_prices(url))
        self._rows: list[Row] = []
        self._largest = 0

    def row(self, label: str, plan: Plan) -> Row:
        """Estimate what the journal does not hold yet."""
        section = self._section
        missing = [request for request in plan.requests if request.key not in self._view]
        strategy = plan.requests[0].strategy
        schema = response_format(strategy) if section.structured else None
        prompt = prompt_tokens(missing, schema)
        output, learned = output_tokens(
            strategy,
            len(missing),
            max_tokens=section.max_tokens,
            seen=list(self._lengths(plan)),
        )
        for request in missing:
            texts = [message.content for message in request.messages]
            self._largest = max(self._largest, most(texts, section.max_tokens, self._price))
        cached = shared_tokens(missing) * max(0, len(missing) - 1)
        row = Row(
            name=label,
            teacher=self._name,
            model=section.model,
            requests=len(plan.requests),
            held=len(plan.requests) - len(missing),
            prompt=prompt,
            output=output,
            learned=learned,
            free=self._price is None,
            costs={mode: self._cost(mode, prompt, output, cached) for mode in MODES},
            minutes=minutes(
                len(missing),
                prompt.expected + output.expected,
                concurrency=section.concurrency,
                rpm=section.rpm,
                tpm=section.tpm,
            ),
        )
        self._rows.append(row)
        return row

    def remarks(self, today: date) -> list[str]:
        """Say how the sum compares with the cap, and what is to be known about the model."""
        section = self._section
        if self._price is None:
            return [f"{self._name}: free"]
        needed = total(row.costs[section.mode] for row in self._rows) or NOTHING
        said = verdict(
            sum(row.to_ask for row in self._rows),
            needed,
            cap=None if section.max_usd is None else checked_cap(section, self._price, self._name),
            spent=self._view.spent_micros(),
            largest=self._largest,
        )
        lines = [f"{self._name} (mode {section.mode}): {said}"]
        listed = listing(section.model)
        if section.price == "listed" and listed is not None:
            lines.append(f"{section.model}: OpenAI's prices of {listed.checked}")
            lines += _ending(section.model, today)
        else:
            lines.append(f"{section.model}: the price in params.yaml, for mode {section.mode}")
        return lines

    def _cost(self, mode: Mode, prompt: Range, output: Range, cached: int) -> Range | None:
        if mode not in self._prices:
            return None
        return cost(prompt, output, self._prices[mode], cached=cached)

    def _known_prices(self, url: str) -> Iterator[tuple[Mode, Price | None]]:
        """Yield the modes with a known price: figures in params.yaml are those of its own mode."""
        section = self._section
        for mode in MODES:
            if mode == section.mode:
                yield mode, self._price
            elif section.price == "listed":
                try:
                    yield mode, price_in(mode, section.price, section.model, url)
                except ParamsError:  # this model is not offered in that mode
                    continue

    def _lengths(self, plan: Plan) -> Iterator[int]:
        for request in plan.requests:
            if request.key in self._view:
                tokens = (self._view[request.key].usage or {}).get("completion_tokens")
                if tokens is not None:
                    yield tokens


def _plan(params: Path, entry: _Entry, data: Questions) -> Plan:
    """Make an entry's requests; an empty environment, since nothing here needs a key."""
    if entry.stage == "ask":
        return load_plan(params, entry.name, _asked(entry, data), environ={})
    return load_answers(params, entry.name, _asked(entry, data), data.showable(), environ={})


def _asked(entry: _Entry, data: Questions) -> list[Question]:
    return [question for part in entry.parts for question in data.part(part)]


def _unpaid(entry: _Entry, data: Questions, section: TeacherParams) -> Row:
    """Return the row of a teacher in this process: how much there is to do, without loading it."""
    return Row(
        name=entry.label,
        teacher=entry.teacher,
        model=section.backend if isinstance(section, RecordedParams) else section.model,
        requests=entry.per_question * len(_asked(entry, data)),
        held=None,
        prompt=None,
        output=None,
        learned=False,
        free=True,
        costs={"sync": NOTHING, "flex": None, "batch": None},
        minutes=None,
    )


def _ending(model: str, today: date) -> list[str]:
    day = shutdown_of(model)
    if day is None:
        return []
    verb = "ended" if day <= today else "ends"
    return [f"{model}: OpenAI {verb} it on {day.isoformat()}; another model has other keys"]


def _entries(params: Path, names: Sequence[str]) -> list[_Entry]:
    """Return the named entries in the order of params.yaml; without names all of them."""
    found = []
    for name, ask in load_all(params, "asks", dict[Name, AskParams]).items():
        found.append(_Entry("ask", name, ask.teacher, (ask.questions,), ask.per_question))
    for name, answers in load_all(params, "answers", dict[Name, AnswersParams]).items():
        found.append(_Entry("answer", name, answers.teacher, ("dev", "test"), 1))
    known = {entry.name for entry in found}
    if unknown := [name for name in names if name not in known]:
        raise ParamsError(
            f"--ask {unknown[0]}: {params} has no such entry in asks or answers "
            f"(there are: {', '.join(sorted(known)) or 'none'})"
        )
    return [entry for entry in found if not names or entry.name in names]


def _by_teacher(entries: Sequence[_Entry]) -> dict[str, list[_Entry]]:
    grouped: dict[str, list[_Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.teacher, []).append(entry)
    return grouped
