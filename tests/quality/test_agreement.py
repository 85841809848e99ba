"""Agreement beyond chance, its interval, and the weight that follows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.intervals import wilson
from medslm.data.records import ANSWERS
from medslm.quality.agreement import Vote, agreement, kappa, kappa_interval, weight


def votes_of(right, wrong, answers=ANSWERS):
    """So many right and wrong votes, spread evenly over the answers."""
    found = [Vote(answers[n % len(answers)], answers[n % len(answers)]) for n in range(right)]
    turned = answers[1:] + answers[:1]
    return found + [Vote(answers[n % len(answers)], turned[n % len(answers)]) for n in range(wrong)]


def worth(votes):
    return weight(agreement(votes))


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


def test_who_is_not_surely_better_than_chance_counts_for_nothing():
    always_yes = [Vote("yes", "yes")] * 60 + [Vote("no", "yes")] * 40
    rng = random.Random(0)
    guesses = [Vote(rng.choice(ANSWERS), rng.choice(ANSWERS)) for _ in range(300)]

    assert worth(always_yes) == 0.0
    assert worth(guesses) == 0.0
    assert worth(votes_of(0, 30)) == 0.0
    assert worth([]) == 0.0
    assert worth([Vote("yes", None)] * 30) == 0.0


def test_the_weight_grows_with_skill_and_with_how_often_it_was_seen():
    few, many = worth(votes_of(24, 6)), worth(votes_of(240, 60))

    assert 0 < few < many < agreement(votes_of(240, 60))["kappa"]
    assert worth(votes_of(30, 0)) > few
    assert worth(votes_of(3, 0)) < 0.2


def test_an_interval_holds_kappa_and_is_none_where_kappa_is():
    for right, wrong in [(0, 9), (9, 0), (5, 4), (30, 12)]:
        table = agreement(votes_of(right, wrong))["table"]
        low, high = kappa_interval(table)
        assert low <= kappa(table) <= high
    assert kappa_interval(agreement([])["table"]) is None
    assert kappa_interval(agreement([Vote("no", "no")])["table"]) is None


def test_a_verifier_that_guesses_gets_a_weight_in_few_of_many_draws():
    """Two-sided 95 %: a guesser passes in about 2.5 % of the measurements on 30 questions."""
    rng = random.Random(1)
    shares = {"yes": 0.55, "no": 0.34, "maybe": 0.11}

    def guess():
        return rng.choices(list(shares), list(shares.values()))[0]

    passed = sum(worth([Vote(guess(), guess()) for _ in range(30)]) > 0 for _ in range(2000))

    assert passed / 2000 < 0.045


def test_wilson_refuses_what_is_no_share():
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)
