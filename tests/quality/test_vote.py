"""The verifier votes blind, and what its votes are worth is measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import ANSWERS
from medslm.errors import DataError, Diverged
from medslm.quality.vote import Vote, agreement, ballots, choose, kappa, measure
from tests.factories import pair, question

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


def vote(pairs, questions, score):
    return ballots(pairs, questions, score=score, verifier="toy", abstain_below=0.4)


def test_the_verifier_sees_abstract_and_question_and_no_claim():
    toy = Toy(SURE)
    source = question(pmid="1")

    votes = vote([pair(pmid="1", answer="no", long_answer="A secret.")], [source], toy)

    assert toy.seen == [(source.context, pair(pmid="1").question)]
    assert [(b.pair_id, b.verifier, b.answer) for b in votes] == [
        ("local-rewrite:1:0", "toy", "yes")
    ]


def test_the_verifier_sees_the_pairs_own_abstract_where_it_has_one():
    toy = Toy(SURE)
    own, other = pair("1", context="Stay was longer."), pair("1", 1)

    vote([own, other], [question("1")], toy)

    assert [context for context, _ in toy.seen] == ["Stay was longer.", question("1").context]


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

    whole = measure(questions, score=Toy(SURE), sample=40, abstain_below=0.4)
    some = measure(questions, score=Toy(SURE), sample=10, abstain_below=0.4)
    turned = measure(questions[::-1], score=Toy(SURE), sample=10, abstain_below=0.4)

    assert (whole["n"], whole["agreed"], whole["agreement"]) == (40, 30, 0.75)
    assert (whole["majority_share"], whole["kappa"]) == (0.75, 0.0)
    assert some == turned
    assert some["n"] == 10


def test_the_sample_asks_other_questions_when_it_grows():
    questions = [question(str(n)) for n in range(40)]
    few, more = Toy(SURE), Toy(SURE)

    measure(questions, score=few, sample=5, abstain_below=0.4)
    measure(questions, score=more, sample=6, abstain_below=0.4)

    assert len(few.seen) == 5
    assert more.seen[:5] == few.seen


def test_a_verifier_that_always_abstains_has_no_agreement():
    found = measure([question()], score=Toy(TORN), sample=5, abstain_below=0.4)

    assert (found["n"], found["answered"], found["abstained"]) == (1, 0, 1)
    assert (found["agreement"], found["kappa"]) == (None, None)


def test_unlabelled_questions_measure_nothing():
    found = measure([question(answer=None)], score=Toy(SURE), sample=5, abstain_below=0.4)

    assert (found["n"], found["majority_share"]) == (0, None)


def test_kappa_is_that_of_cohens_table():
    # 20 + 15 of 50 agree; chance (25*30 + 25*20) / 2500 = .5, so (.7 - .5) / .5
    table = {
        "yes": {"yes": 20, "no": 5, "maybe": 0},
        "no": {"yes": 10, "no": 15, "maybe": 0},
        "maybe": {"yes": 0, "no": 0, "maybe": 0},
    }

    assert kappa(table) == pytest.approx(0.4)


def test_kappa_is_undefined_where_chance_explains_everything():
    votes = [Vote("yes", "yes")] * 3

    assert agreement(votes)["kappa"] is None
    assert agreement([*votes, Vote("no", "no")])["kappa"] == 1


VOTES = st.lists(
    st.builds(Vote, st.sampled_from(ANSWERS), st.sampled_from([*ANSWERS, None])), max_size=60
)


@given(VOTES)
def test_kappa_equals_that_of_scikit_learn(votes):
    from sklearn.metrics import cohen_kappa_score

    answered = [v for v in votes if v.voted is not None]
    found = agreement(votes)["kappa"]
    if found is None:
        assert len({v.claimed for v in answered} | {v.voted for v in answered}) <= 1
        return
    claimed, voted = zip(*answered, strict=True)
    assert found == pytest.approx(cohen_kappa_score(claimed, voted, labels=ANSWERS), abs=1e-6)


@given(VOTES)
def test_the_counts_of_an_agreement_add_up(votes):
    found = agreement(votes)

    assert found["n"] == len(votes) == found["answered"] + found["abstained"]
    assert sum(sum(row.values()) for row in found["table"].values()) == found["answered"]
    assert found["agreed"] == sum(v.claimed == v.voted for v in votes)
