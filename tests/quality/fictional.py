"""Fictional studies and clean pairs about them, as many as asked for: the ground that defects are planted in.

Every study crosses one treatment, one illness and one outcome. What is asked again draws from other words
and another build of the sentence, as a teacher's rewrite does.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from medslm.data.records import Answer, Pair, Passage, Question

TREATMENTS = """
evening light boxes|saffron tea|ward yoga|text reminders|nurse phone calls|cold mist tents|
goat milk|walking groups|silver dressings|bilberry drops|harp music|balloon splints|
clay baths|peer coaching|night oxygen|barefoot training|zinc lozenges|video visits|
low-salt bread|heated gloves|fish skin grafts|mirror exercises|rosehip powder|early weaning|
ice vests|honey gauze|standing desks|breathing games|lavender pillows|foot pumps|
spinach juice|group singing|scalp cooling|hinged braces|weekly weighing|silent wards|
ankle weights|garden work|voice diaries|paraffin wraps|seaweed patches|balance boards|
bedside clocks|ginger capsules|shared meals|magnet belts|copper rails|early bathing|
reading glasses|cherry syrup|wrist cuffs|tidal breathing|moss bandages|sand beds|
afternoon naps|rowing machines|nettle cream|pocket alarms|oat masks|steam rooms
"""
ILLNESSES = """
gout|tennis elbow|hay fever|shingles|plantar fasciitis|cluster headache|chronic cough|
snoring|frozen shoulder|vertigo|chilblains|psoriasis|trigger finger|bunions|laryngitis|
restless legs|whiplash|kidney stones|sinusitis|varicose veins|tinnitus|eczema|gallstones|
heartburn|rosacea|sciatica|bruxism|conjunctivitis|anal fissure|cellulitis|hip fracture|
stroke|pneumonia|croup|colic|bedwetting|jet lag|frostbite|pertussis|hives|acne|scabies|
lumbago|bronchiolitis|pancreatitis|nosebleeds|burn scars|corneal ulcers|leg ulcers|dry mouth|
hiccups|migraine|sepsis|anaemia|cataract|glaucoma|appendicitis|sunburn|
carpal tunnel syndrome|motion sickness
"""
OUTCOMES = """
pain at rest|time to first steps|number of falls|hours of sleep|readmission within a month|
grip strength|days off work|wound size|use of painkillers|blood loss|quality of life|
fasting glucose|skin temperature|walking distance|length of stay|systolic pressure|body weight|
reaction time|infection of the wound|appetite|anxiety before surgery|number of attacks|
oxygen need|joint swelling|costs per patient|fatigue|serum iron|itching at night|
hearing thresholds|voice quality
"""
PEOPLE = """
women|adults|boys|farm workers|men|children|students|elderly patients|girls|office workers|
older tenants|infants|dancers|adolescents|sailors|pregnant women|male nurses
"""
# What a question asks for, and its opposite.
WAYS = """
improve/worsen|increase/decrease|raise/lower|lengthen/shorten|strengthen/weaken|accelerate/slow|
lead to better/lead to worse|lead to more/lead to less|lead to higher/lead to lower|
lead to longer/lead to shorter|lead to greater/lead to smaller|be superior for/be inferior for|
reduce/increase|worsen/improve|mean less/mean more|lead to fewer/lead to more
"""


class Facts(NamedTuple):
    """What a study is about and what it found."""

    treatment: str
    illness: str
    outcome: str
    people: str
    n: int
    done: int
    years: int
    way: tuple[str, str]
    groups: tuple[int, ...]


class World(NamedTuple):
    """Studies by part, the facts of each by PMID, and clean pairs about the train ones."""

    train: list[Question]
    dev: list[Question]
    test: list[Question]
    facts: dict[str, Facts]
    pairs: list[Pair]


# Builds of the sentence for the study itself, and others for what is asked about it again. {t} is the
# treatment, {i} the illness, {o} the outcome, {p} the people, {up} a direction and {down} its opposite.
ASKED = (
    "Does treatment with {t} {up} {o} in {p} with {i}?",
    "Do {t} {up} {o} among {p} suffering from {i} for {years} years?",
    "{T} for {i}: do they {up} {o} of {p} within {years} years?",
    "Is {o} of {p} with {i} influenced by {t}?",
    "Can {t} {up} {o} when {p} have had {i} for {years} years?",
    "In {p} with {i}, do {t} make a difference to {o} after {years} years?",
)
AGAIN = (
    "When {p} live with {i}, is {o} any different once they are given {t}?",
    "Is there an influence of {t} upon {o} where {p} are ill with {i}?",
    "For {p} who have {i}, would {o} respond to the use of {t}?",
    "Could giving {t} to {p} because of {i} have consequences for {o}?",
)
NEW = (
    (
        "Did most of the {p} with {i} complete the course of {t}?",
        "{done} of {n} {p} completed {t}.",
    ),
    (
        "Was {o} still being measured {years} years after {t} were started for {i}?",
        "Follow-up of {o} ended at {years} years in these {p} with {i}.",
    ),
)
RESULTS: dict[Answer, str] = {
    "yes": "{O} differed clearly between {p} given {t} and those in usual care.",
    "no": "{O} was alike in {p} given {t} and in usual care.",
    "maybe": "{O} tended to differ under {t}, with wide intervals in these {p}.",
}
CONCLUSIONS: dict[Answer, str] = {
    "yes": "These data favour {t}: {o} of {p} with {i} was altered to a useful degree.",
    "no": "{T} left {o} alone when {p} with {i} were compared.",
    "maybe": "Whether {t} alter {o} of {p} with {i} stays open and needs larger trials.",
}
# As another teacher might put a held-out study: no word of the sentence in common but the names of things.
PARAPHRASES = (
    "Looking at patients affected by {i}, here namely {p}, would introducing {t} be worthwhile as far "
    "as {o} goes?",
    "Should one expect that {t}, once offered as therapy for {i}, lead to another {o} within groups "
    "such as {p}?",
)
REASON = "For {i}, the trial put {t} against customary management of {p}; its main measure was {o}."


def world(seed: int = 0, *, train: int = 120, held_out: int = 60) -> World:
    """Return studies and clean pairs: a rewrite and two new ones per training study."""
    rng = random.Random(seed)
    count = train + 2 * held_out
    facts = _facts(rng, count)
    studies = [_study(str(1000 + number), found, rng) for number, found in enumerate(facts)]
    by_pmid = {study.pmid: found for study, found in zip(studies, facts, strict=True)}
    learned = studies[:train]
    pairs = [pair for study in learned for pair in _pairs(study, by_pmid[study.pmid], rng)]
    return World(
        learned, studies[train : train + held_out], studies[train + held_out :], by_pmid, pairs
    )


def said(template: str, facts: Facts) -> str:
    """Return a template with the facts of a study filled in."""
    o, t = facts.outcome, facts.treatment
    return template.format(
        t=t, T=t.capitalize(), i=facts.illness, o=o, O=o.capitalize(), p=facts.people,
        n=facts.n, done=facts.done, years=facts.years, up=facts.way[0], down=facts.way[1],
        a=facts.groups[0], b=facts.groups[1], c=facts.groups[2], d=facts.groups[3],
    )  # fmt: skip


def _facts(rng: random.Random, count: int) -> list[Facts]:
    """Return facts in which no two studies share treatment and illness, or illness and outcome."""
    treatments, illnesses, outcomes, people, ways = (
        [" ".join(word.split()) for word in words.split("|")]
        for words in (TREATMENTS, ILLNESSES, OUTCOMES, PEOPLE, WAYS)
    )
    found = []
    for number in range(count):
        turn = number // len(treatments)
        n = rng.randrange(40, 400)
        found.append(
            Facts(
                treatments[number % len(treatments)],
                illnesses[(7 * number + 11 * turn) % len(illnesses)],
                outcomes[(11 * number + 5 * turn) % len(outcomes)],
                people[(4 * number + turn) % len(people)],
                n,
                n - rng.randrange(1, n // 3),
                rng.randrange(3, 9),
                _way(rng.choice(ways)),
                tuple(rng.sample(range(10, 40), 4)),
            )
        )
    rng.shuffle(found)
    return found


def _way(words: str) -> tuple[str, str]:
    up, down = words.split("/")
    return up, down


def _study(pmid: str, facts: Facts, rng: random.Random) -> Question:
    answer: Answer = rng.choice(("yes", "no", "maybe"))
    methods = (
        "We assigned {n} {p} with {i} to {t} or to usual care and followed them for {years} years. "
        "Staff who measured {o} did not know the groups. "
        "There were {a} women and {b} men, {c} of them elderly and {d} children."
    )
    results = RESULTS[answer] + " {done} of {n} completed the study; there were no serious events."
    return Question(
        pmid=pmid,
        question=said(rng.choice(ASKED), facts),
        sections=(
            Passage("METHODS", said(methods, facts)),
            Passage("RESULTS", said(results, facts)),
        ),
        long_answer=said(CONCLUSIONS[answer], facts),
        answer=answer,
    )


def _pairs(study: Question, facts: Facts, rng: random.Random) -> list[Pair]:
    assert study.answer is not None
    rewrite = _pair(
        study, "rewrite", 0, said(rng.choice(AGAIN), facts), study.answer, study.long_answer
    )
    new = [
        _pair(study, "new", index, said(asked, facts), "yes", said(reason, facts))
        for index, (asked, reason) in enumerate(NEW)
    ]
    return [rewrite, *new]


def _pair(
    study: Question, strategy: str, index: int, asked: str, answer: Answer, reason: str
) -> Pair:
    return Pair(
        id=f"{strategy}:{study.pmid}:{index}",
        pmid=study.pmid,
        strategy=strategy,
        teacher="fictional",
        prompt=f"{strategy}/chat-v1",
        reply_key=f"{int(study.pmid) * 10 + index:064x}",
        question=asked,
        context=None,
        answer=answer,
        long_answer=reason,
    )
