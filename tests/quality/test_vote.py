"""The verifier votes blind, several times, and what its votes are worth is measured."""

from __future__ import annotations

import math

import pytest

from medslm.data.records import ANSWERS
from medslm.errors import DataError, Diverged
from medslm.quality.settings import VerifierParams
from medslm.quality.vote import (
    ORDERS,
    asked_about,
    ballots,
    by_teacher_and_strategy,
    choose,
    consistency,
    elected,
    measure,
    on_claims,
    poll,
    real_sample,
    support,
)
from tests.factories import pair, question
from tests.quality.builders import ballot
from tests.stages.quality_files import PARAMS

SURE = {"yes": 0.7, "no": 0.2, "maybe": 0.1}
TORN = {"yes": 0.38, "no": 0.32, "maybe": 0.3}


class Toy:
    """A verifier that remembers what it was shown and answers with one row."""

    def __init__(self, row):
        self.row = row
        self.seen = []

    def __call__(self, items):
        self.seen += items
        return [self.row for _ in items]


def first_offered(items):
    """A verifier without an opinion: it takes whatever is offered first."""
    return [{a: 0.8 if a == item.options[0] else 0.1 for a in ANSWERS} for item in items]


def vote(pairs, questions, score, votes=1, weight=0.5):
    asked = asked_about(pairs, questions)
    polls = poll(asked, score=score, votes=votes, abstain_below=0.4)
    return ballots(pairs, polls, verifier="toy", weight=weight)


def measured(questions, score, sample=40, votes=1):
    gold = real_sample(questions, sample)
    asked = [(q.context, q.question) for q in gold]
    return measure(gold, poll(asked, score=score, votes=votes, abstain_below=0.4))


def test_the_verifier_sees_abstract_and_question_and_no_claim():
    toy = Toy(SURE)
    source = question(pmid="1")

    votes = vote([pair(pmid="1", answer="no", long_answer="A secret.")], [source], toy)

    assert toy.seen == [(source.context, pair(pmid="1").question, ANSWERS)]
    assert [(b.pair_id, b.verifier, b.answer) for b in votes] == [
        ("local-rewrite:1:0", "toy", "yes")
    ]


def test_the_verifier_sees_the_pairs_own_abstract_where_it_has_one():
    toy = Toy(SURE)
    own, other = pair("1", context="Stay was longer."), pair("1", 1)

    vote([own, other], [question("1")], toy)

    assert [item.context for item in toy.seen] == ["Stay was longer.", question("1").context]


def test_ballots_come_in_the_order_of_the_pairs():
    pairs = [pair(pmid="2"), pair(pmid="1")]

    votes = vote(pairs, [question("1"), question("2")], Toy(SURE))

    assert [ballot.pair_id for ballot in votes] == [p.id for p in pairs]


def test_an_unsure_verifier_abstains():
    assert choose(TORN, abstain_below=0.4) is None
    assert choose(TORN, abstain_below=0.38) == "yes"


def test_a_tie_is_an_abstention_and_a_hair_decides():
    assert choose({"yes": 0.45, "no": 0.45, "maybe": 0.1}, abstain_below=0.4) is None
    assert choose({"yes": 0.45, "no": 0.450001, "maybe": 0.1}, abstain_below=0.4) == "no"


def test_a_pair_without_its_source_is_named():
    with pytest.raises(DataError, match="local-rewrite:9:0"):
        vote([pair(pmid="9")], [question("1")], Toy(SURE))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 0.5])
def test_scores_that_are_no_probabilities_stop_the_vote(bad):
    with pytest.raises(Diverged, match="no probabilities"):
        vote([pair()], [question()], Toy({**SURE, "yes": bad}))


def test_a_missing_score_stops_the_vote():
    with pytest.raises(DataError, match="0 scores for 1"):
        vote([pair()], [question()], lambda _: [])


def test_no_pairs_give_no_ballots():
    assert vote([], [question()], Toy(SURE)) == []


def test_a_verifier_is_measured_against_gold_on_a_fixed_sample():
    questions = [question(str(n), answer="yes" if n % 4 else "no") for n in range(40)]

    whole = measured(questions, Toy(SURE))
    some = measured(questions, Toy(SURE), sample=10)
    turned = measured(questions[::-1], Toy(SURE), sample=10)

    assert (whole["n"], whole["agreed"], whole["agreement"]) == (40, 30, 0.75)
    assert (whole["majority_share"], whole["kappa"]) == (0.75, 0.0)
    assert some == turned
    assert some["n"] == 10


def test_the_sample_asks_other_questions_when_it_grows():
    questions = [question(str(n)) for n in range(40)]
    few, more = Toy(SURE), Toy(SURE)

    measured(questions, few, sample=5)
    measured(questions, more, sample=6)

    assert len(few.seen) == 5
    assert more.seen[:5] == few.seen


def test_a_verifier_that_always_abstains_has_no_agreement():
    found = measured([question()], Toy(TORN), sample=5)

    assert (found["n"], found["answered"], found["abstained"]) == (1, 0, 1)
    assert (found["agreement"], found["kappa"]) == (None, None)


def test_unlabelled_questions_measure_nothing():
    found = measured([question(answer=None)], Toy(SURE), sample=5)

    assert (found["n"], found["majority_share"]) == (0, None)


def test_each_vote_offers_the_answers_in_another_order():
    toy = Toy(SURE)

    vote([pair()], [question()], toy, votes=3)

    assert [item.options for item in toy.seen] == list(ORDERS[:3])
    for place in range(3):
        assert {order[place] for order in ORDERS[:3]} == set(ANSWERS)
    assert len(set(ORDERS)) == len(ORDERS) == 6


def test_as_many_votes_as_there_are_orders_may_be_asked_for():
    good = PARAMS["quality"]["verifier"]

    assert VerifierParams.model_validate({**good, "votes": len(ORDERS)})
    with pytest.raises(ValueError, match="votes"):
        VerifierParams.model_validate({**good, "votes": len(ORDERS) + 1})


def test_a_verifier_that_takes_the_first_answer_offered_elects_none_in_three_votes():
    (one,) = vote([pair()], [question()], first_offered, votes=1)
    (three,) = vote([pair()], [question()], first_offered, votes=3)

    assert (one.votes, one.answer, one.consistency) == (("yes",), "yes", 1.0)
    assert three.votes == ("yes", "no", "maybe")
    assert (three.answer, three.consistency) == (None, 0.333333)
    assert len(set(three.probabilities.values())) == 1


def test_votes_and_probabilities_of_one_question_are_counted_together():
    rows = [SURE, TORN, {"yes": 0.1, "no": 0.8, "maybe": 0.1}] * 2

    found, again = poll([("a", "b"), ("c", "d")], score=lambda _: rows, votes=3, abstain_below=0.4)

    assert found.votes == ("yes", None, "no")
    assert (found.answer, found.consistency) == (None, 0.333333)
    assert found.probabilities == {"yes": 0.393333, "no": 0.44, "maybe": 0.166667}
    assert again == found


@pytest.mark.parametrize(
    ("votes", "answer"),
    [
        (("yes", "yes", "no"), "yes"),
        (("yes", None, None), "yes"),
        (("yes", "no", None), None),
        ((None, None, None), None),
        (("maybe", "maybe", "maybe"), "maybe"),
    ],
)
def test_the_answer_is_the_one_with_more_votes_than_any_other(votes, answer):
    assert elected(votes) == answer


@pytest.mark.parametrize(
    ("weight", "votes", "stands"),
    [
        (1.0, ("no", "no", "no"), 0.0),
        (1.0, ("no", "no", "yes"), 1 / 3),
        (1.0, ("no", None, None), 2 / 3),
        (1.0, (None, None, None), 1.0),
        (0.5, ("no", "no", "no"), 0.5),
        (0.0, ("no", "no", "no"), 1.0),
    ],
)
def test_votes_speak_against_a_claim_as_much_as_the_verifier_is_worth(weight, votes, stands):
    cast = ballot(pair(), votes=votes, weight=weight)

    assert support(cast, "yes") == pytest.approx(stands)


def test_what_the_verifier_says_of_claims_is_told_apart_by_teacher_and_strategy():
    pairs = [pair("1"), pair("2", answer="no"), pair("3", strategy="new", teacher="other")]
    votes = vote(pairs, [question(str(n)) for n in range(1, 4)], Toy(SURE))

    found = by_teacher_and_strategy(pairs, votes)

    assert list(found) == ["local/rewrite", "other/new"]
    assert [(g["n"], g["agreed"]) for g in found.values()] == [(2, 1), (1, 1)]
    assert found["local/rewrite"]["table"]["no"] == {"yes": 1, "no": 0, "maybe": 0}
    assert found["local/rewrite"]["consistency"] == 1.0
    assert (on_claims(pairs, votes)["n"], on_claims(pairs, votes)["agreed"]) == (3, 2)
    assert (by_teacher_and_strategy([], []), on_claims([], [])["n"]) == ({}, 0)
    assert consistency([]) is None
