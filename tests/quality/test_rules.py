"""Each rule drops what it is about and lets its neighbour through."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import Passage
from medslm.quality import rules
from medslm.quality.rules import RULES, Case, Drop, reasons
from medslm.quality.text import words
from medslm.quality.wording import near_identical
from tests.factories import pair, question
from tests.quality.builders import LIMITS, limits


def case(text=None, *, knobs=LIMITS, source=None, support=0.5, **overrides):
    if text is not None:
        overrides["question"] = text
    return Case(pair(**overrides), source or question(), support, knobs)


def test_the_smallest_valid_pair_breaks_no_rule():
    assert reasons(case()) == set()
    assert reasons(case(strategy="new")) == set()


def test_every_reason_has_its_rule():
    # the rest needs other pairs, other files or people: see check and pool
    elsewhere = {Drop.DUPLICATE, Drop.NEAR_DUPLICATE, Drop.LEAKS_HELD_OUT, Drop.DOUBTED_LABEL}
    elsewhere |= {Drop.DROPPED_BY_REVIEWER}
    assert set(RULES.values()) == set(Drop) - elsewhere


TABLE = [
    (
        rules.not_a_question,
        [
            "Treatment 1 shortens the stay of adults.",
            "Is it? Is it not?",
            "Is the stay shorter?!",
            "",
        ],
        ["Is the stay of adults shorter?"],
    ),
    (
        rules.not_yes_no,
        [
            "What shortens the stay of adults?",
            "How long is the stay of adults?",
            "In which adults does treatment shorten stay?",
            "Treatment and the stay of adults?",
            "Why, in adults, is the stay shorter?",
            "The stay of adults: a new problem?",
            "?",
        ],
        [
            "Does treatment shorten stay?",
            "Isn't the stay shorter?",
            "Don\u2019t adults leave sooner?",
            "In adults with asthma, does treatment shorten stay?",
            "Among adults does treatment shorten stay?",
            "Treatment in adults: is the stay shorter?",
            "Stay of adults--can we shorten it?",
            "When given early, can treatment shorten stay?",
            "Treatment of adults. Is it useful?",
        ],
    ),
    (rules.too_short, ["Is it?", "Why?"], ["Is treatment toxic?"]),
    (rules.too_long, ["Is " + "very " * 39 + "long?"], ["Is " + "very " * 38 + "long?"]),
    (
        rules.markup,
        [
            "Is <b>stay</b> shorter?",
            "Is stay <script>alert(1)</script> shorter?",
            "Is stay <img src=x onerror=y> shorter?",
            "Is **stay** shorter?",
            "Is stay shorter, see https://example.org/x?",
            "Is {{7*7}} shorter?",
            "Is ${x} shorter?",
            "Is stay shorter <|endoftext|>?",
            "Is [stay](x) shorter?",
        ],
        ["Is p<0.05 or x>3 met?", "Is stay < 5 days in adults?", "Is IL-6 (serum) shorter?"],
    ),
    (
        rules.secret,
        [
            "Is sk-" + "a" * 24 + " the key?",
            "Is ghp_" + "a1" * 18 + " it?",
            "Is AKIA" + "A" * 16 + " it?",
            "Is hf_" + "a" * 30 + " it?",
        ],
        ["Is task-based therapy of risk-averse adults shorter?", "Is SK-1 higher in adults?"],
    ),
    (
        rules.refusal,
        ["I'm sorry, is it?", "As an AI, can I answer?", "Is it that I can't say?"],
        ["Is a language model as accurate as adults?", "Can adults say sorry?"],
    ),
    (
        rules.mentions_its_prompt,
        ["Does the abstract say that stay is shorter?", "Is it yes, no or maybe?"],
        ["Are abstract submissions of adults published?"],
    ),
    (
        rules.not_english,
        [
            "\u00bfReduce el tratamiento la estancia de los adultos?",
            "Verk\u00fcrzt die Behandlung und nicht das Bett den Aufenthalt?",
            "Est-ce que le traitement est plus court dans les cas?",
            "Is \u0441tay shorter?",
            "Is \u5165\u9662 stay shorter?",
            "Skraca leczenie pobyt doros\u0142ych pacjent\u00f3w w szpitalu oraz wydatki rodziny potem?",
        ],
        [
            "Is en bloc resection de novo safer?",
            "Is TNF-\u03b1 or \u00b5-opioid use higher in adults?",
            "Tricompartmental replacement significantly affected tibial axial rotation (p = 0.001).",
            "Is \u2460 \uff33tay shorter?",
            "Is stay shorter in the Universit\u00e9 de Li\u00e8ge?",
        ],
    ),
    (
        rules.bad_unicode,
        ["Is stay\u200b shorter?", "Is stay\u202e shorter?", "Is \ud800 shorter?", "Is\u2800it?"],
        ["Is stay of adults d\u00e9j\u00e0 shorter?"],
    ),
    (
        rules.addresses_reader,
        ["Can you shorten the stay of adults?", "Is your stay shorter?"],
        ["Can youth shorten the stay of adults?"],
    ),
    (
        rules.repeats_itself,
        ["Does a new device for adults help where a new device for adults helps?"],
        ["Is stay shorter in adults with asthma than in adults with gout?"],
    ),
    (
        rules.giveaway,
        [
            "Is stay shorter, as the study shows?",
            "Yes, is stay shorter?",
            "Is the answer is yes?",
            "Maybe stay is shorter?",
            "Is stay shorter, as demonstrated by these results?",
            "Given that the authors found so, is stay shorter?",
        ],
        [
            "Is there no change of stay, as shown by ultrasound?",
            "Are web-based systems the answer for adults?",
            "Did the study reach adults?",
        ],
    ),
    (
        rules.off_topic,
        ["Do magnetic fields bend migrating turtles towards beaches?", "Is it so?"],
        ["Are adults in hospital for a shorter time?"],
    ),
    (
        rules.copies_its_source,
        [
            "Does treatment 1 shorten the hospital stay of adults?",
            "DOES treatment-1 shorten, the hospital stay of adults",
        ],
        ["Does treatment 1 prolong the hospital stay of adults?"],
    ),
]


TELLING = question(
    question="Does enalapril lower HDL-C and stay of women on day 12?",
    sections=(
        Passage(
            "METHODS", "Women of the Acute Pain Unit (APU) took enalapril; T1 and T2 were staged."
        ),
        Passage(
            "RESULTS",
            "IL-6 and HDL cholesterol were lower in 40 women on magnetic resonance images.",
        ),
    ),
)

MEANING = [
    (
        rules.unknown_names,
        ["Does losartan lower HDL-C?", "Is CRP lower?", "Is IL6 or PCR lower?", "Do statins help?"],
        [
            "Does enalapril lower IL 6?",
            "Is APU stay shorter by MRI?",
            "Is T1a or L4 common in IV lines?",
            "Is cholesterol lower?",
            "Is it 3D?",
        ],
    ),
    (
        rules.changed_numbers,
        [
            "Is stay shorter on day 13?",
            "Is stay below 4.5 in women?",
            "Is stay shorter on day 40?",
            "Is stay shorter on day forty-one or 40?",
        ],
        [
            "Is stay of 40 women shorter on day 12?",
            "Is stay shorter?",
            "Is stay shorter on day twelve, once, at first or at second sight?",
        ],
    ),
    (
        rules.changed_negation,
        ["Does enalapril not lower stay?", "Doesn't enalapril lower HDL-C?", "Is it never lower?"],
        ["Does enalapril lower HDL-C?", "Is stay lower whether or not women move?"],
    ),
    (
        rules.changed_direction,
        ["Does enalapril increase stay of women?", "Is HDL-C higher in women?"],
        [
            "Does enalapril reduce stay?",
            "Is it more useful where stay is lower?",
            "Does it alter it?",
        ],
    ),
    (
        rules.changed_people,
        ["Is stay of men shorter?", "Is stay of girls and boys shorter?"],
        ["Is stay of women shorter?", "Is stay of female patients shorter in children?"],
    ),
]


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule, bad, _ in MEANING for text in bad]
)
def test_a_change_of_meaning_is_dropped(rule, text):
    assert rule(case(text, source=TELLING))
    assert RULES[rule] in reasons(case(text, source=TELLING))


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule, _, good in MEANING for text in good]
)
def test_other_words_for_the_same_are_no_change(rule, text):
    assert not rule(case(text, source=TELLING))


@pytest.mark.parametrize(
    ("told", "unknown", "known"),
    [
        ("The effect of actions was doubtful.", ["CT", "AC", "MI"], []),
        ("Coronary tomography was done.", ["CTA", "TW"], ["CT"]),
        ("Quality of life and in total knees.", ["OL", "LT"], ["QoL", "TK"]),
        ("MR imaging and IL-6 were used.", ["MRA", "IL7"], ["MRI", "MR", "IL 6", "IL6"]),
        ("The BMIs of others were used.", ["BM", "MIS"], ["BMI", "BMIs"]),
        ("Cholecystectomies were laparoscopic.", ["CHO"], ["CHOLE"]),
    ],
)
def test_a_name_of_two_or_three_letters_is_a_word_of_its_own_or_initials(told, unknown, known):
    source = question(question="Is it so?", long_answer="", sections=(Passage("R", told),))

    for name in unknown:
        assert rules.unknown_names(case(f"Is {name} shorter?", source=source)), name
    for name in known:
        assert not rules.unknown_names(case(f"Is {name} shorter?", source=source)), name


def test_only_rewrites_have_to_keep_the_meaning_and_any_teacher_the_names():
    other = "Does losartan not increase the stay of 13 men?"

    rewritten, new = (reasons(case(other, source=TELLING, strategy=s)) for s in ("rewrite", "new"))

    changed = {why for why in Drop if why.value.startswith("changed_")} - {Drop.CHANGED_ANSWER}
    assert rewritten & changed == changed
    assert not new & changed
    assert Drop.UNKNOWN_NAMES in new


@pytest.mark.parametrize(
    ("asked", "kept", "turned"),
    [
        ("Is it better early?", "Does it do good in time?", "Is it worse early?"),
        ("Is it useful?", "Is it of use and does it improve stay?", "Does it worsen stay?"),
        ("Is stay improved?", "Is stay better?", "Is stay deteriorating?"),
        ("Is stay increased?", "Is there more stay?", "Is there less stay?"),
        ("Are there more falls?", "Do falls increase?", "Are there fewer falls?"),
        ("Does risk rise?", "Is risk higher?", "Does risk fall?"),
        ("Is risk high?", "Is there a high risk?", "Is risk low?"),
        ("Is a long stay bad?", "Is it bad to stay long?", "Is a short stay bad?"),
        ("Are gains seen?", "Is there any gain?", "Are losses seen?"),
        ("Are bones strengthened?", "Are bones stronger?", "Are bones weakened?"),
        ("Is early care safe?", "Is care safe early on?", "Is late care safe?"),
        ("Is healing accelerated?", "Is healing faster?", "Is healing slowed?"),
        ("Is low back pain more frequent?", "Is there more back pain?", "Is back pain reduced?"),
    ],
)
def test_a_direction_is_kept_in_other_words_and_not_turned(asked, kept, turned):
    source = question(question=asked)

    assert not rules.changed_direction(case(kept, source=source))
    assert rules.changed_direction(case(turned, source=source))
    assert rules.changed_direction(case(asked, source=question(question=turned)))


def test_a_direction_is_not_guessed_where_a_question_has_both_sides_or_none():
    both = question(question="Does increased use reduce the rate?")

    assert not rules.changed_direction(case("Does decreased use reduce the rate?", source=both))
    assert not rules.changed_direction(
        case("Is stay shorter?", source=question(question="Is stay of adults another?"))
    )


def test_a_group_that_took_part_too_does_not_stand_for_the_one_asked_about():
    told = (Passage("METHODS", "Men and women, children and the elderly took part."),)
    source = question(question="Is stay of elderly women shorter?", sections=told)

    for changed in ("Is stay of elderly men shorter?", "Is stay of girls shorter?"):
        assert rules.changed_people(case(changed, source=source))
    for kept in ("Is stay of older women shorter?", "Is stay of women and men shorter?"):
        assert not rules.changed_people(case(kept, source=source))
    assert not rules.changed_people(
        case("Is stay of men shorter?", source=question(question="Is stay shorter?", sections=told))
    )


def test_a_rank_in_place_of_a_rank_is_a_change_and_a_count_in_its_place_is_none():
    told = (Passage("RESULTS", "Scans at 11 weeks, in the first and in the second trimester."),)
    source = question(question="Is a scan in the first trimester useful?", sections=told)

    assert rules.changed_numbers(case("Is a scan in the second trimester useful?", source=source))
    assert not rules.changed_numbers(case("Is a scan at 11 weeks useful?", source=source))


def test_what_may_stand_for_a_denial_is_none_that_was_dropped():
    source = question(question="Is it safe for adults whose testes have not descended?")

    assert not rules.changed_negation(case("Is it safe with undescended testes?", source=source))
    assert rules.changed_negation(case("Is it safe with descended testes?", source=source))


def test_a_rewrite_keeps_the_gold_answer():
    assert reasons(case(answer="no")) == {Drop.CHANGED_ANSWER}
    assert reasons(case(answer="no", strategy="new")) == set()


def test_a_pair_whose_id_names_another_source_was_mixed_up():
    assert reasons(case(id="local-rewrite:2:0")) == {Drop.WRONG_SOURCE}
    assert reasons(case(id="nothing")) == {Drop.WRONG_SOURCE}
    assert reasons(case(id="local-rewrite:1:7")) == set()


def test_a_reason_that_begins_with_another_answer_is_dropped_and_one_that_denies_is_not():
    for told in ("No, it did not.", "\u201cMaybe: stay of adults was shorter.", "NO!"):
        assert rules.says_another_answer(case(long_answer=told))
    for told in ("Yes, stay was shorter.", "No difference was found.", "Nothing.", ""):
        assert not rules.says_another_answer(case(long_answer=told))


def test_question_and_reason_together_have_to_be_about_the_source():
    elsewhere = "Migrating turtles followed magnetic fields along volcanic beaches."

    assert rules.answer_not_in_context(case(long_answer=elsewhere, strategy="new"))
    assert not rules.answer_not_in_context(case(long_answer="Stay of the adults was 4.1 days."))
    assert not rules.answer_not_in_context(case("Do turtles migrate?", long_answer=""))


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, bad, _ in TABLE for text in bad])
def test_a_rule_drops_what_it_is_about(rule, text):
    assert rule(case(text))


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule, _, good in TABLE for text in good]
)
def test_a_rule_keeps_what_only_looks_alike(rule, text):
    assert not rule(case(text))


@pytest.mark.parametrize("rule", [rules.markup, rules.secret, rules.refusal])
def test_long_answers_are_read_as_well(rule):
    bad = "<b>I'm sorry</b>, sk-" + "a" * 24

    assert rule(case(long_answer=bad))
    assert not rule(case(long_answer="I was sorry."))


def test_a_long_run_of_the_abstract_is_a_copy():
    run = "one two three four five six seven eight nine ten eleven twelve"
    source = question(sections=(Passage("RESULTS", f"We saw {run} here."),))

    assert rules.copies_context(case(f"Is it that {run}?", source=source))
    assert not rules.copies_context(case(f"Is it that {run[4:]}?", source=source))


def test_a_rewrite_may_not_bring_new_numbers():
    told = (Passage("R", "Of 1,200 adults twelve left after 4.10 days."),)
    source = question(question="Do adults leave?", sections=told)

    assert rules.changed_numbers(case("Did 13 adults leave?", source=source))
    for kept in ("Did 12 of 1200 leave?", "Did adults leave after 4.1 days?", "Did 1,200 stay?"):
        assert not rules.changed_numbers(case(kept, source=source))
    new = case("Did 13 adults leave?", source=source, strategy="new")
    assert Drop.CHANGED_NUMBERS not in reasons(new)
    assert Drop.CHANGED_NUMBERS in reasons(case("Did 13 adults leave?", source=source))


def test_the_sources_question_with_another_answer_contradicts_it():
    same = question().question

    assert {Drop.CONTRADICTION, Drop.COPIES_ITS_SOURCE} <= reasons(case(same, answer="no"))
    assert Drop.CONTRADICTION not in reasons(case(same, answer="yes"))


STAY = question().context


def turned(context=None, **overrides):
    known = {"strategy": "counterfactual", "answer": "no", "question": question().question}
    context = STAY.replace("4.1", "6.1") if context is None else context
    return case(context=context, **{**known, **overrides})


def test_a_good_counterfactual_breaks_no_rule_though_its_question_is_the_sources():
    assert reasons(turned()) == set()
    assert Drop.COPIES_ITS_SOURCE in reasons(turned(strategy="new"))


@pytest.mark.parametrize(
    ("context", "overrides", "reason"),
    [
        (STAY, {}, Drop.UNCHANGED_CONTEXT),
        (STAY.replace(" (p=0.01).", ". (P = 0.01)"), {}, Drop.UNCHANGED_CONTEXT),
        (None, {"answer": "yes"}, Drop.UNCHANGED_ANSWER),
        (None, {"long_answer": "As an AI, no."}, Drop.REFUSAL),
        (STAY + " I'm sorry.", {}, Drop.REFUSAL),
        (STAY + " <b>No.</b>", {}, Drop.MARKUP),
        (STAY + " hf_" + "a" * 30, {}, Drop.SECRET),
        (STAY + " It was not so." * 10, {}, Drop.EDITS_TOO_MUCH),
        (STAY[: len(STAY) // 2], {}, Drop.EDITS_TOO_MUCH),
        ("", {}, Drop.EDITS_TOO_MUCH),
    ],
)
def test_a_counterfactual_is_dropped_for_its_edits(context, overrides, reason):
    assert reasons(turned(context, **overrides)) == {reason}


def test_how_much_may_be_edited_is_a_knob():
    words_before = len(words(STAY))
    edited = turned(STAY + " Then none.")

    assert not rules.edits_too_much(
        case(context=edited.pair.context, knobs=limits(max_edit_share=2 / words_before))
    )
    assert rules.edits_too_much(
        case(context=edited.pair.context, knobs=limits(max_edit_share=1.9 / words_before))
    )


def test_what_is_moved_is_edited_but_not_new():
    moved = turned(STAY.replace("4.1", "x").replace("6.0", "4.1").replace("x", "6.0"))

    assert reasons(moved) == set()


def test_marks_that_the_sources_abstract_has_are_not_held_against_an_edit():
    source = question(sections=(Passage("R", f"{STAY} See https://example.org/x or p<b>1."),))

    assert reasons(turned(source.context.replace("4.1", "6.1"), source=source)) == set()
    assert Drop.MARKUP in reasons(turned(source.context + " <i>x</i>", source=source))


def labelled(source, **overrides):
    known = {"strategy": "pseudo-label", "question": source.question, "long_answer": "So."}
    return case(source=source, **{**known, **overrides})


def test_a_pseudo_label_is_judged_by_the_shape_of_the_real_question_and_by_gold():
    unlabelled = question(answer=None)
    which = question(question="Which of the two shortens the stay of adults?", answer=None)

    assert reasons(labelled(unlabelled)) == reasons(labelled(unlabelled, answer="no")) == set()
    assert reasons(labelled(which)) == {Drop.NOT_YES_NO}
    assert reasons(labelled(question(answer="yes"))) == set()
    assert reasons(labelled(question(answer="no"))) == {Drop.CONTRADICTION}
    assert reasons(labelled(unlabelled, long_answer="**So.**")) == {Drop.MARKUP}


def test_what_a_rule_is_about_decides_for_which_strategies_it_is():
    odd = {"question": "Can you shorten your stay? Yes!"}

    written = {s: reasons(case(strategy=s, **odd)) for s in ("rewrite", "new")}
    real = {s: reasons(case(strategy=s, **odd)) for s in ("counterfactual", "pseudo-label")}

    assert all(Drop.ADDRESSES_READER in found for found in written.values())
    assert not any(Drop.ADDRESSES_READER in found for found in real.values())
    assert Drop.UNCHANGED_CONTEXT in real["counterfactual"]
    assert Drop.UNCHANGED_CONTEXT not in {*real["pseudo-label"], *written["new"]}


def test_a_reason_is_only_demanded_where_params_say_so():
    assert rules.empty_long_answer(case(long_answer="", knobs=limits(require_long_answer=True)))
    assert not rules.empty_long_answer(case(long_answer=""))


def test_votes_count_only_where_params_set_a_bound():
    assert rules.unsupported_by_votes(case(support=0.09, knobs=limits(min_support=0.1)))
    assert not rules.unsupported_by_votes(case(support=0.1, knobs=limits(min_support=0.1)))
    assert rules.unsupported_by_votes(case(support=None, knobs=limits(min_support=0.0)))
    assert not rules.unsupported_by_votes(case(support=0.0))
    assert not rules.unsupported_by_votes(case(support=0.0, knobs=limits(min_support=0.0)))


def test_all_reasons_are_found_and_not_just_the_first():
    assert reasons(case("I'm sorry")) >= {
        Drop.REFUSAL,
        Drop.NOT_A_QUESTION,
        Drop.NOT_YES_NO,
        Drop.TOO_SHORT,
    }


STRATEGIES = ["rewrite", "new", "counterfactual", "pseudo-label"]


@given(*[st.text(max_size=300)] * 3, st.sampled_from(STRATEGIES))
def test_rules_judge_any_text(asked, long_answer, context, strategy):
    own = {"context": context if strategy == "counterfactual" else None, "strategy": strategy}

    assert reasons(case(asked, long_answer=long_answer, **own)) <= set(Drop)


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 50_000 + "!",
        "<a" * 9_000,
        "1," * 9_000,
        "1" * 19_000,
        "sk-" * 6_000,
        "eyJ" + "a" * 18_000,
        "as the study " * 1_500,
        ", is" * 4_000 + "?",
        "\\a" * 9_000,
    ],
)
def test_b21_hostile_text_is_judged_within_a_second(hostile):
    started = time.monotonic()

    reasons(case(hostile, long_answer=hostile))
    reasons(case(hostile, long_answer=hostile, context=hostile, strategy="counterfactual"))

    assert time.monotonic() - started < 1


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_being_nearly_the_same_is_mutual_and_holds_for_oneself(one, other):
    one, other = words(" ".join(one)), words(" ".join(other))

    assert near_identical(one, one, 0.85)
    assert near_identical(one, other, 0.5) == near_identical(other, one, 0.5)
