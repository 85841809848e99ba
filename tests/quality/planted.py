"""Defects, planted one by one into clean pairs, and how many of each kind are found.

``KINDS`` names every kind with who has to find it: RULES promise all of them, VECTORS need the sentence
vectors, VOTES a verifier or a person (what they let through is told, not promised).
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from medslm.data.records import Exchange, Pair, Question
from medslm.quality.check import check
from medslm.quality.guard import TEST, Bounds, Guard
from medslm.quality.lexicon import DRUG_STEMS
from medslm.quality.meaning import people
from medslm.quality.parse import parse
from medslm.quality.pool import pool
from medslm.quality.rules import Limits
from tests.quality.builders import ballot
from tests.quality.fictional import PARAPHRASES, REASON, Facts, World, said

RULES, VECTORS, VOTES = "rules", "vectors", "votes"
PER_KIND = 50


class Found(NamedTuple):
    """How many defects of a kind there were, and how many did not stay."""

    by: str
    planted: int
    found: int


Damage = Callable[[Pair, World, random.Random], Sequence[Pair]]


class Kind(NamedTuple):
    """A kind of defect: who has to find it, what it is done to, and how.

    The damaged pairs take the place of the clean one. With ``spares`` so many of them may stay. What
    ``stops`` has to stop the run: that another rule drops it does not count. ``among`` tells which
    pairs can have the defect at all.
    """

    by: str
    strategy: str
    damage: Damage
    spares: int = 0
    stops: bool = False
    among: Callable[[Pair, World], bool] = lambda _, __: True


def recall(world: World, kind: Kind, judge: Judge, seed: str) -> Found:
    """Plant one kind of defect fifty times, one after the other among its own siblings, and count."""
    rng = random.Random(seed)
    chosen = rng.sample(eligible(world, kind), PER_KIND)
    replaced = {pair.id: list(kind.damage(pair, world, rng)) for pair in chosen}
    pairs = [p for pair in world.pairs for p in replaced.get(pair.id, [pair])]
    if kind.by == VECTORS or kind.stops:  # other rules may find it: it is about another study
        damaged = [pair for pairs in replaced.values() for pair in pairs]
        leaks = judge.stops(damaged) if kind.stops else judge.leaks(damaged)
        return Found(kind.by, len(replaced), sum(pair_id in leaks for pair_id in replaced))
    stays = judge.kept(pairs)
    found = sum(
        sum(pair.id in stays for pair in damaged) <= kind.spares for damaged in replaced.values()
    )
    return Found(kind.by, len(replaced), found)


def eligible(world: World, kind: Kind) -> list[Pair]:
    """Return the clean pairs that can have a defect of the kind."""
    return [p for p in world.pairs if p.strategy == kind.strategy and kind.among(p, world)]


class Judge:
    """Everything between parse and mix: the guard, the rules, the pool."""

    def __init__(
        self, world: World, limits: Limits, bounds: Bounds, embed: Any | None = None
    ) -> None:
        """Index the held-out studies once."""
        self._world, self._limits = world, limits
        self._guard = Guard(world.dev, world.test, bounds, embed)

    def kept(self, pairs: Sequence[Pair]) -> set[str]:
        """Return the ids of the pairs that would be trained on."""
        test = {study.pmid for study in self._world.test}
        apart = [pair for pair in pairs if pair.pmid not in test and pair.pmid.strip()]
        matches = self._guard.matches(apart)
        checked = check(
            apart,
            [ballot(pair, weight=0.0) for pair in apart],
            train=self._world.train,
            unlabelled=[],
            dev=self._world.dev,
            test=self._world.test,
            limits=self._limits,
            leaking={match.pair_id for match in matches},
        )
        pooled = pool(
            {"all": checked.kept},
            near_identical=self._limits.near_identical,
            near_duplicate=self._limits.near_duplicate,
            doubted=frozenset(),
        )
        return {pair.id for pair in pooled.kept["all"]}

    def leaks(self, pairs: Sequence[Pair]) -> set[str]:
        """Return the ids of pairs that resemble a test study."""
        return {match.pair_id for match in self._guard.matches(pairs) if match.part == TEST}

    def stops(self, pairs: Sequence[Pair]) -> set[str]:
        """Return the ids that would stop the run."""
        test = {study.pmid for study in self._world.test}
        apart = [pair for pair in pairs if pair.pmid not in test]
        hits = {m.pair_id for m in self._guard.matches(apart) if m.hit and m.part == TEST}
        return hits | {pair.id for pair in pairs if pair.pmid in test}


def _with(**texts: str) -> Damage:
    """Replace fields by templates that may name the pair's own text as {question} and {reason}."""

    def damage(pair: Pair, world: World, _: random.Random) -> Sequence[Pair]:
        facts = world.facts[pair.pmid]
        filled = {
            name: said(text, facts).replace("<q>", pair.question).replace("<r>", pair.long_answer)
            for name, text in texts.items()
        }
        return [dataclasses.replace(pair, **filled)]

    return damage


def _drawn(text: str, value: Callable[[Facts, random.Random], str]) -> Damage:
    """Replace the question by a template in which <x> is drawn anew for each pair."""

    def damage(pair: Pair, world: World, rng: random.Random) -> Sequence[Pair]:
        facts = world.facts[pair.pmid]
        return [
            dataclasses.replace(pair, question=said(text, facts).replace("<x>", value(facts, rng)))
        ]

    return damage


def _flipped(pair: Pair, _: World, rng: random.Random) -> Sequence[Pair]:
    others = [answer for answer in ("yes", "no", "maybe") if answer != pair.answer]
    return [dataclasses.replace(pair, answer=rng.choice(others))]


def _of_test(change: Callable[[Question, Facts, Pair], dict[str, Any]]) -> Damage:
    def damage(pair: Pair, world: World, rng: random.Random) -> Sequence[Pair]:
        study = rng.choice(world.test)
        return [dataclasses.replace(pair, **change(study, world.facts[study.pmid], pair))]

    return damage


def _exchanged(text: str) -> str:
    """Exchange one word of ten for another."""
    tokens = text.split()
    tokens[len(tokens) // 2] = "likewise"
    return " ".join(tokens)


def _beside(**changes: Any) -> Damage:
    """Put a changed twin with an id of its own beside the pair."""

    def damage(pair: Pair, world: World, _: random.Random) -> Sequence[Pair]:
        filled = {k: v(pair, world) if callable(v) else v for k, v in changes.items()}
        return [pair, dataclasses.replace(pair, **{"id": _next_id(pair, world), **filled})]

    return damage


def _next_id(pair: Pair, _: World) -> str:
    return f"{pair.id}9"


def _other_ask(pair: Pair, _: World) -> str:
    return f"other-{pair.id}"


def _other_answer(pair: Pair, _: World) -> str:
    return "no" if pair.answer != "no" else "yes"


def _reworded(pair: Pair, _: World) -> str:
    """Say the same with another order and other small words."""
    return f"All in all, {pair.question[0].lower()}{pair.question[1:-1]} or not?"


def _elsewhere(pair: Pair, world: World, rng: random.Random) -> Sequence[Pair]:
    """Take the text of another study's pair: the teacher mixed up two abstracts."""
    other = rng.choice(
        [p for p in world.pairs if p.pmid != pair.pmid and p.strategy == pair.strategy]
    )
    return [dataclasses.replace(pair, question=other.question, long_answer=other.long_answer)]


def _misfiled(pair: Pair, world: World, rng: random.Random) -> Sequence[Pair]:
    other = rng.choice([study for study in world.train if study.pmid != pair.pmid])
    return [dataclasses.replace(pair, pmid=other.pmid)]


def _of_a_test_pmid(pair: Pair, world: World, rng: random.Random) -> Sequence[Pair]:
    return [dataclasses.replace(pair, pmid=rng.choice(world.test).pmid)]


def _paraphrased(study: Question, facts: Facts, _: Pair) -> dict[str, Any]:
    asked = PARAPHRASES[int(study.pmid) % len(PARAPHRASES)]
    return {"question": said(asked, facts), "long_answer": said(REASON, facts)}


def _copied(study: Question, _: Facts, __: Pair) -> dict[str, Any]:
    return {"question": study.question}


def _nearly_copied(study: Question, _: Facts, __: Pair) -> dict[str, Any]:
    return {"question": _exchanged(study.question)}


def _concluded(study: Question, _: Facts, pair: Pair) -> dict[str, Any]:
    return {"long_answer": study.long_answer, "question": pair.question}


def _told(study: Question, _: Facts, pair: Pair) -> dict[str, Any]:
    return {"context": study.context, "strategy": "counterfactual", "answer": "no"}


def _absent_number(_: Facts, rng: random.Random) -> str:
    return str(rng.randrange(500, 10_000))


def _other_number(facts: Facts, rng: random.Random) -> str:
    """Draw another number of the study."""
    return str(rng.choice([facts.n, facts.done, *facts.groups]))


def _own_number(facts: Facts, _: random.Random) -> str:
    return str(facts.years)


def _turned(facts: Facts, _: random.Random) -> str:
    return facts.way[1]


def _not_turned(facts: Facts, _: random.Random) -> str:
    return facts.way[0]


def _other_people(facts: Facts, rng: random.Random) -> str:
    """Draw a group that took part, but that the question is not about."""
    theirs = people(facts.people)
    groups = {"women": "sex", "men": "sex", "children": "age", "the elderly": "age"}
    return rng.choice(
        [
            name
            for name, trait in groups.items()
            if theirs[trait] and not people(name)[trait] <= theirs[trait]
        ]
    )


def _own_people(facts: Facts, _: random.Random) -> str:
    return facts.people


def _drug(_: Facts, rng: random.Random) -> str:
    """Make up a drug by the ending of its class."""
    return rng.choice(("zora", "belu", "crido", "tamva", "osti")) + rng.choice(DRUG_STEMS[:20])


def _code(_: Facts, rng: random.Random) -> str:
    return f"{''.join(rng.choices('BCDFGHJKLMNPQRST', k=2))}-{rng.randrange(10, 100)}"


def _acronym(_: Facts, rng: random.Random) -> str:
    return rng.choice(_ACRONYMS)


def _asks_a_number(pair: Pair, world: World) -> bool:
    return str(world.facts[pair.pmid].years) in _source(pair, world).question


def _asks_a_direction(pair: Pair, world: World) -> bool:
    return world.facts[pair.pmid].way[0] in _source(pair, world).question


def _asks_about_a_group(pair: Pair, world: World) -> bool:
    return any(people(world.facts[pair.pmid].people).values())


def _behind_an_opening(study: Question, _: Facts, __: Pair) -> dict[str, Any]:
    opening = "In those who came back to the same wards for two more years after all this was over"
    return {"question": f"{opening}, {study.question[0].lower()}{study.question[1:]}"}


def appended(text: Callable[[World, random.Random], str]) -> Damage:
    """Make a counterfactual with one more sentence at the end of its abstract."""

    def damage(pair: Pair, world: World, rng: random.Random) -> Sequence[Pair]:
        source = _source(pair, world)
        changes: dict[str, Any] = {
            "strategy": "counterfactual",
            "question": source.question,
            "context": f"{source.context} {text(world, rng)}",
            "answer": "no" if source.answer != "no" else "yes",
        }
        return [dataclasses.replace(pair, **changes)]

    return damage


def _test_question(world: World, rng: random.Random) -> str:
    return rng.choice(world.test).question


def _test_conclusion(world: World, rng: random.Random) -> str:
    return rng.choice(world.test).long_answer


def _source(pair: Pair, world: World) -> Question:
    [source] = [study for study in world.train if study.pmid == pair.pmid]
    return source


def _source_again(pair: Pair, world: World, _: random.Random) -> Sequence[Pair]:
    asked = _source(pair, world).question
    return [dataclasses.replace(pair, question=asked.upper().replace("?", " ?"))]


def _context_again(pair: Pair, world: World, _: random.Random) -> Sequence[Pair]:
    run = " ".join(_source(pair, world).context.split()[:16]).rstrip(".")
    return [dataclasses.replace(pair, question=f"Is it so that {run}?")]


# Medicine is full of these, and their letters stand together inside the words of many a study.
_ACRONYMS = (
    *("CT", "MS", "RA", "BP", "AF", "TB", "MRI", "ECG", "BMI", "PET", "HIV", "ICU", "CRP", "PSA"),
    *("TIA", "DVT", "ACE"),
)

_NUMBERED = "Once <x> years are over, is {o} of {p} who live with {i} another under {t}?"
_DIRECTED = "Would {t} <x> {o} wherever {p} have {i}?"
_PEOPLED = "Would {t} make any difference to {o} where <x> have {i}?"

KINDS: dict[str, Kind] = {
    "label_flip_of_a_rewrite": Kind(RULES, "rewrite", _flipped),
    "label_flip_of_a_new_pair": Kind(VOTES, "new", _flipped),
    "reason_with_another_answer": Kind(RULES, "new", _with(long_answer="No, <r>")),
    "test_pmid": Kind(RULES, "rewrite", _of_a_test_pmid),
    "test_question": Kind(RULES, "new", _of_test(_copied)),
    "test_question_one_word_exchanged": Kind(RULES, "new", _of_test(_nearly_copied)),
    "test_conclusion_as_reason": Kind(RULES, "new", _of_test(_concluded)),
    "test_abstract_as_context": Kind(RULES, "new", _of_test(_told)),
    "test_question_behind_an_opening": Kind(RULES, "new", _of_test(_behind_an_opening), stops=True),
    "test_question_in_an_abstract": Kind(RULES, "new", appended(_test_question), stops=True),
    "test_conclusion_in_an_abstract": Kind(RULES, "new", appended(_test_conclusion), stops=True),
    "test_question_paraphrased": Kind(VECTORS, "new", _of_test(_paraphrased)),
    "swapped_pmid": Kind(RULES, "rewrite", _misfiled),
    "text_of_another_study": Kind(VOTES, "rewrite", _elsewhere),
    "duplicate": Kind(RULES, "new", _beside(), spares=1),
    "duplicate_across_asks": Kind(RULES, "new", _beside(id=_other_ask), spares=1),
    "near_duplicate": Kind(RULES, "new", _beside(question=_reworded), spares=1),
    "contradiction": Kind(RULES, "new", _beside(answer=_other_answer)),
    "contradiction_across_asks": Kind(
        RULES, "new", _beside(id=_other_ask, answer=_other_answer, teacher="another")
    ),
    "changed_number": Kind(
        RULES, "rewrite", _drawn("Among <x> {p} with {i}, was {o} changed by {t}?", _absent_number)
    ),
    "number_of_the_study": Kind(
        RULES, "rewrite", _drawn(_NUMBERED, _other_number), among=_asks_a_number
    ),
    "turned_direction": Kind(RULES, "rewrite", _drawn(_DIRECTED, _turned), among=_asks_a_direction),
    "people_of_the_study": Kind(
        RULES, "rewrite", _drawn(_PEOPLED, _other_people), among=_asks_about_a_group
    ),
    "added_negation": Kind(
        RULES, "rewrite", _with(question="Is {o} of {p} who have {i} not changed by {t}?")
    ),
    "another_drug": Kind(
        RULES, "rewrite", _drawn("Would <x> change {o} in {p} who have {i}?", _drug)
    ),
    "another_code": Kind(
        RULES, "rewrite", _drawn("Would <x> and {t} change {o} in {p} who have {i}?", _code)
    ),
    "another_acronym": Kind(
        RULES, "rewrite", _drawn("Would <x> and {t} change {o} in {p} who have {i}?", _acronym)
    ),
    "giveaway": Kind(RULES, "new", _with(question="Since the study found so, <q>")),
    "german_question": Kind(
        RULES,
        "new",
        _with(question="Wird {o} durch {t} bei {p} mit {i} und von anderen verändert?"),
    ),
    "spanish_reason": Kind(
        RULES,
        "new",
        _with(long_answer="El uso de {t} no cambió {o} en los casos con {i} ni en las visitas."),
    ),
    "cyrillic_look_alikes": Kind(RULES, "new", _with(question="\u0410fter all, <q>")),
    "markup": Kind(RULES, "new", _with(question="Is <b>{o}</b> of {p} with {i} changed by {t}?")),
    "script_in_reason": Kind(RULES, "new", _with(long_answer="<r><script>alert(1)</script>")),
    "secret": Kind(RULES, "new", _with(long_answer="<r> sk-" + "a1B2" * 8)),
    "refusal": Kind(RULES, "new", _with(long_answer="As an AI, I cannot judge this. <r>")),
    "mentions_its_prompt": Kind(
        RULES, "new", _with(question="According to the abstract, is {o} of {p} with {i} altered?")
    ),
    "addresses_the_reader": Kind(
        RULES, "new", _with(question="Would you give {t} to {p} with {i} for {o}?")
    ),
    "no_question": Kind(RULES, "new", _with(question="{T} changed {o} of {p} with {i}.")),
    "open_question": Kind(RULES, "new", _with(question="How do {t} change {o} of {p} with {i}?")),
    "too_short": Kind(RULES, "new", _with(question="Is it?")),
    "too_long": Kind(RULES, "new", _with(question="Is it " + "very " * 45 + "true of {o}?")),
    "repeats_itself": Kind(
        RULES, "new", _with(question="Is {o} of {p} with {i} or {o} of {p} with {i} altered?")
    ),
    "copies_its_source": Kind(RULES, "rewrite", _source_again),
    "copies_context": Kind(RULES, "new", _context_again),
    "hidden_characters": Kind(RULES, "new", _with(long_answer="<r>\u202e\u200b")),
    "off_topic": Kind(
        RULES,
        "new",
        _with(question="Are comets brighter than planets near Saturn?", long_answer=""),
    ),
}


# The same questions with what their source says: these are no defects, and stay.
CONTROLS: dict[str, Damage] = {
    "number_of_the_study": _drawn(_NUMBERED, _own_number),
    "turned_direction": _drawn(_DIRECTED, _not_turned),
    "people_of_the_study": _drawn(_PEOPLED, _own_people),
}

# Replies that no pair may come of; {reason} and the like are not in them, so that parse alone decides.
REPLIES: dict[str, str] = {
    "cut_json": '{"question": "Is it so?", "answer": "y',
    "no_answer": '{"question": "Is it so?"}',
    "another_word_for_an_answer": '{"question": "Is it so?", "answer": "probably"}',
    "two_answers": '{"question": "Is it so?", "answer": "yes", "answer": "no"}',
    "blank_question": '{"question": " ", "answer": "yes"}',
    "hidden_in_escapes": json.dumps({"question": "Is it\u200b so?", "answer": "yes"}),
    "chatter": "Sure! I would be glad to help with that.",
    "not_a_number": '{"question": "Is it so?", "answer": NaN}',
}


def unread(world: World, content: str) -> Found:
    """Hand a broken reply to ``parse`` fifty times, for as many studies."""
    studies = world.train[:PER_KIND]
    read = [parse(_exchange(study, content), study, "planted") for study in studies]
    return Found(RULES, len(studies), sum(not isinstance(row, Pair) for row in read))


def _exchange(study: Question, content: str) -> Exchange:
    return Exchange(
        key=f"{int(study.pmid):064x}",
        pmid=study.pmid,
        strategy="new",
        index=0,
        teacher="fictional",
        prompt="new/chat-v1",
        content=content,
        finish_reason="stop",
        served_model="fictional",
        structured=False,
        usage=None,
    )


def measured(world: World, judge: Judge, *, vectors: bool) -> dict[str, Any]:
    """Return recall per kind and false drops on the clean pairs, as they go into a metrics file.

    With vectors only the kinds that need them are planted: they add to what is found without.
    """
    chosen = {name: kind for name, kind in KINDS.items() if not vectors or kind.by == VECTORS}
    found = {name: recall(world, kind, judge, name) for name, kind in chosen.items()}
    if not vectors:
        found |= {f"reply_{name}": unread(world, text) for name, text in REPLIES.items()}
    stays = judge.kept(world.pairs)
    wrong = sum(pair.id not in stays for pair in world.pairs)
    return {
        "clean": {
            "pairs": len(world.pairs),
            "dropped": wrong,
            "share": round(wrong / len(world.pairs), 4),
        },
        "kinds": {
            name: {
                "by": row.by,
                "planted": row.planted,
                "recall": round(row.found / row.planted, 4),
            }
            for name, row in sorted(found.items())
        },
        "stops": len(judge.stops(world.pairs)),
    }
