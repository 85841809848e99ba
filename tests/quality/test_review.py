"""The review page, used as people use it: filters, keys, notes, export; and nothing in the data runs."""

from __future__ import annotations

import dataclasses
import json

import pytest

from medslm.data.records import ANSWERS, Dropped, Passage
from medslm.errors import DataError
from medslm.files import read_jsonl, write_jsonl
from medslm.quality.decisions import Decision, Download, content_of, merge
from medslm.quality.review import Seen, page, read_seen
from tests.factories import pair, question
from tests.quality.builders import ballot

HOSTILE = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "</style></script><svg onload='window.hit = 1'>",
    '"><a href="javascript:window.hit=1">x</a>',
    "{{ 7 * 7 }} ${7*7} {% raw %}",
    "<!-- <script>",
    "]]>\u2028 &lt;b&gt; &amp;",
]
ALL = " ".join(HOSTILE)


def seen(n, *, reasons=(), votes=None, **fields):
    """Return a pair of its own source; no votes given means that the verifier voted as claimed."""
    ask = f"local-{fields.get('strategy', 'rewrite')}"
    found = pair(str(n), **{"id": f"{ask}:{n}:0", **fields})
    said = votes or ballot(found, answer=found.answer)
    return Seen(ask, found, tuple(reasons), said)


def few():
    return [
        seen(1),
        seen(2, teacher="gpt", answer="no"),
        seen(3, reasons=["too_long", "off_topic"]),
        seen(4, strategy="new", reasons=["leaks_held_out"], answer="maybe"),
        seen(5, strategy="new", votes=ballot(pair("5"), answer=None)),
        seen(
            6, question="Is the oedema of treatment 6 rarer?", votes=ballot(pair("6"), answer="no")
        ),
    ]


SOURCES = [question(str(n)) for n in range(1, 7)]


def written(folder, rows, sources=SOURCES, decisions=()):
    path = folder / "review.html"
    path.write_text(page(rows, sources, decisions), encoding="utf-8")
    return path


def listed(tab):
    return tab.evaluate(
        "[...document.querySelectorAll('.row .ask span:first-child')].map(e => e.textContent.split(' · ')[1])"
    )


def saved(tab, folder):
    """Export, and return the lines of the file."""
    tab.save_downloads_in(folder)
    tab.press("e")
    tab.wait_for("document.getElementById('said').textContent.includes('saved as')")
    path = folder / "review.jsonl"
    for _ in range(500):
        if path.exists():
            return read_jsonl(path, Download)
        tab.evaluate("new Promise(done => setTimeout(done, 20))")
    raise AssertionError(f"{path} was not saved")


def test_both_sides_stand_beside_each_other_with_the_changes_marked(browser, tmp_path):
    reworded = seen(1, question="Does treatment 1 cut the hospital stay of older adults?")
    with browser.open(written(tmp_path, [reworded])) as tab:
        marks = "[...document.querySelectorAll('.sides.asked %s')].map(e => e.textContent)"
        assert tab.evaluate(marks % "del") == ["shorten"]
        assert tab.evaluate(marks % "ins") == ["cut", "older"]
        left, right = (tab.text(f".sides.asked > div:nth-child({n}) p") for n in (1, 2))
        assert (left, right) == (SOURCES[0].question, reworded.pair.question)
        tops = "[...document.querySelectorAll('.sides.asked > div')].map(e => e.offsetTop)"
        assert len(set(tab.evaluate(tops))) == 1
        assert SOURCES[0].sections[1].text in tab.text("#pair")
        assert "Blind vote: yes, which agrees" in tab.text("#pair")
        assert (tab.errors(), tab.requests()) == ([], [])


def test_texts_with_few_words_in_common_are_not_marked_and_the_page_says_so(browser, tmp_path):
    with browser.open(written(tmp_path, [seen(1, question="Were costs lower in summer?")])) as tab:
        assert tab.count(".sides.asked del, .sides.asked ins") == 0
        assert "few words in common" in tab.text(".sides.asked")
        assert "few words in common" not in tab.text(".sides.answered")


def test_case_and_punctuation_are_no_change_but_a_sign_is(browser, tmp_path):
    source = question("1", question="Is the change (in mmol) of -5 or .5 lower?")
    asked = "is the Change in mmol, of 5 or 5 lower"
    with browser.open(written(tmp_path, [seen(1, question=asked)], [source])) as tab:
        marks = "[...document.querySelectorAll('.sides.asked %s')].map(e => e.textContent)"
        assert tab.evaluate(marks % "del") == ["-5", ".5"]
        assert tab.evaluate(marks % "ins") == ["5", "5"]


def test_an_edited_abstract_is_compared_with_the_sources(browser, tmp_path):
    context = SOURCES[0].context.replace("4.1", "7.9")

    with browser.open(written(tmp_path, [seen(1, context=context)])) as tab:
        assert tab.text(".sides.context del") == "4.1"
        assert tab.text(".sides.context ins") == "7.9"


@pytest.mark.parametrize(
    ("field", "value", "left"),
    [
        ("teacher", "gpt", ["2"]),
        ("strategy", "new", ["4", "5"]),
        ("ask", "local-new", ["4", "5"]),
        ("reason", "too_long", ["3"]),
        ("reason", "leaks_held_out", ["4"]),
        ("label", "no", ["2"]),
        ("kept", "dropped", ["3", "4"]),
        ("kept", "kept", ["5", "1", "2", "6"]),
        ("vote", "disagrees", ["6"]),
        ("vote", "abstained", ["5"]),
        ("decision", "undecided", ["4", "3", "5", "1", "2", "6"]),
        ("text", "OEDEMA", ["6"]),
    ],
)
def test_a_filter_leaves_what_it_names(browser, tmp_path, field, value, left):
    with browser.open(written(tmp_path, few())) as tab:
        tab.choose(f"#filter-{field}", value)
        assert sorted(listed(tab)) == sorted(left)
        assert tab.text("#shown").startswith(f"{len(left)} of 6") or len(left) == 6
        tab.press("r")
        assert len(listed(tab)) == 6


def test_filters_meet(browser, tmp_path):
    with browser.open(written(tmp_path, few())) as tab:
        tab.choose("#filter-strategy", "new")
        tab.choose("#filter-kept", "dropped")
        assert listed(tab) == ["4"]
        tab.choose("#filter-label", "yes")
        assert listed(tab) == []
        assert "No pair passes" in tab.text("#pair")
        tab.press("k", "d", "u", "n", "p", "c")
        assert tab.errors() == []


def test_keys_decide_move_and_take_back_and_the_export_says_so(browser, tmp_path):
    rows = [seen(n) for n in range(1, 6)]
    ids = [one.pair.id for one in rows]
    with browser.open(written(tmp_path, rows)) as tab:
        tab.press("k", "d", "n", "c")
        tab.type("asks two things\n=1+1 µ\u202e")
        tab.press("k")  # into the note, not a verdict
        assert tab.evaluate("document.getElementById('note').value").endswith("k")
        tab.press("Escape", "d", "p")
        assert tab.text(".about b") == ids[3]
        tab.press("ArrowUp", "ArrowUp", "u")
        assert tab.text(".about b") == ids[1]
        assert tab.text("#counts") == "2 of 5 decided: 1 keep, 1 drop"
        lines = saved(tab, tmp_path / "saved")

    by_id = {one.pair.id: content_of(one.pair) for one in rows}
    assert lines == [
        Download(ids[0], by_id[ids[0]], "keep", ""),
        Download(ids[3], by_id[ids[3]], "drop", "asks two things\n=1+1 µk"),
    ]
    merged = merge([], tmp_path / "saved" / "review.jsonl", {one.pair.id: one.pair for one in rows})
    assert (merged.new, merged.refused) == (2, [])


def test_a_note_may_come_before_the_decision(browser, tmp_path):
    with browser.open(written(tmp_path, [seen(1), seen(2)])) as tab:
        tab.press("c")
        tab.type("first this")
        tab.press("Escape", "n", "p", "d")
        lines = saved(tab, tmp_path / "saved")

    assert [(line.verdict, line.note) for line in lines] == [("drop", "first this")]


def test_buttons_do_what_the_keys_do(browser, tmp_path):
    rows = [seen(n) for n in range(1, 4)]
    with browser.open(written(tmp_path, rows)) as tab:
        tab.click("#keep")
        tab.click("#drop")
        tab.click("#previous")
        assert tab.text(".about b") == rows[1].pair.id
        tab.click("#undo")
        tab.click("#next")
        assert tab.text(".about b") == rows[2].pair.id
        tab.click("#row-0")
        assert "you: keep" in tab.text(".chips")
        assert tab.text("#counts").startswith("1 of 3 decided")


def test_decided_pairs_leave_a_list_of_undecided_ones(browser, tmp_path):
    with browser.open(written(tmp_path, [seen(n) for n in range(1, 5)])) as tab:
        tab.choose("#filter-decision", "undecided")
        tab.press("n", "k", "d")
        assert listed(tab) == ["1", "4"]


def test_single_keys_can_be_turned_off_and_are_listed(browser, tmp_path):
    with browser.open(written(tmp_path, [seen(1), seen(2)])) as tab:
        tab.press("?")
        shown = tab.text("#help")
        assert all(key in shown for key in "KDCUNPFRE")
        tab.click("#keys")
        tab.press("k")
        assert tab.text("#counts").startswith("0 of 2")
        tab.click("#keys")
        tab.press("k")
        assert tab.text("#counts").startswith("1 of 2")


def test_decisions_survive_closing_the_page_but_not_a_change_of_the_pair(browser, tmp_path):
    rows = [seen(1), seen(2), seen(3)]
    path = written(tmp_path, rows)
    with browser.open(path) as tab:
        tab.press("k", "d")
    with browser.open(path) as tab:
        assert tab.text("#counts") == "2 of 3 decided: 1 keep, 1 drop"
    changed = rows[0]._replace(pair=dataclasses.replace(rows[0].pair, answer="maybe"))
    with browser.open(written(tmp_path, [changed, *rows[1:]])) as tab:
        assert tab.text("#counts") == "1 of 3 decided: 0 keep, 1 drop"


def test_earlier_decisions_are_shown_and_can_be_cleared_and_changed_pairs_are_named(
    browser, tmp_path
):
    rows = [seen(n) for n in range(1, 4)]
    decisions = [
        Decision(rows[0].pair.id, content_of(rows[0].pair), "drop", "why"),
        Decision(rows[1].pair.id, "0" * 64, "keep", "old"),
        Decision("gone:1:0", "0" * 64, "keep", ""),
    ]
    with browser.open(written(tmp_path, rows, decisions=decisions)) as tab:
        assert tab.text("#counts").startswith("1 of 3 decided")
        assert "changed since it was decided (keep)" in tab.text(".chips")
        tab.press("p")
        assert tab.evaluate("document.getElementById('note').value") == "why"
        tab.press("u")
        lines = saved(tab, tmp_path / "saved")

    assert [(line.pair_id, line.verdict) for line in lines] == [(rows[0].pair.id, "clear")]


def test_a_keep_against_a_locked_reason_says_that_it_does_not_lift_it(browser, tmp_path):
    rows = [seen(1, reasons=["leaks_held_out", "too_long"]), seen(2, reasons=["too_long"])]
    with browser.open(written(tmp_path, rows)) as tab:
        assert "leaks held out · locked" in tab.text(".chips")
        tab.press("k")
        assert "does not lift: leaks held out." in tab.text("#said")
        tab.press("k")
        assert "does not lift" not in tab.text("#said")


def test_a_keep_lifts_a_doubt_and_the_page_says_so(browser, tmp_path):
    with browser.open(written(tmp_path, [seen(1, reasons=["doubted_label"])])) as tab:
        assert "doubted label" in tab.text(".chips")
        assert "locked" not in tab.text(".chips")
        tab.press("k")
        assert "does not lift" not in tab.text("#said")


def hostile():
    """A pair, its source, votes and decision with hostile text wherever text can be."""
    own = dataclasses.replace(
        pair("1"),
        id=f"{ALL}:1:0",
        pmid=ALL,
        teacher=ALL,
        strategy=ALL,
        prompt=ALL,
        question=ALL,
        context=ALL + " more",
        long_answer=ALL,
    )
    source = question(
        ALL, question=ALL + "?", sections=(Passage(ALL, ALL),), long_answer="x " + ALL
    )
    row = Seen(ALL, own, (ALL, "too_long"), ballot(own, verifier=ALL))
    return row, source, Decision(own.id, content_of(own), "drop", ALL)


def test_b13_markup_in_any_field_of_the_review_page_stays_text(browser, tmp_path):
    row, source, decision = hostile()
    with browser.open(written(tmp_path, [row, seen(2)], [source], [decision])) as tab:
        tab.press("p", "p", "ArrowUp", "f", "Escape", "?")
        tab.click("#row-0")
        tab.evaluate("new Promise(done => setTimeout(done, 50))")
        assert tab.evaluate("window.hit ?? null") is None
        assert [tab.count(tag) for tag in ("img", "svg", "a", "iframe", "object", "link")] == [
            0
        ] * 6
        assert tab.count("script") == 2
        assert (
            tab.evaluate("document.querySelectorAll('[onload], [onerror], [style*=url]').length")
            == 0
        )
        whole = tab.evaluate("document.getElementById('pair').textContent")
        assert whole.count(ALL) >= 8
        assert tab.evaluate("document.getElementById('note').value").startswith(HOSTILE[0])
        assert (tab.errors(), tab.requests()) == ([], [])


def test_b13_the_policy_stops_any_other_script_and_any_load(browser, tmp_path):
    """Control for the test above: markup that did get in would be refused, and it would be seen."""
    path = written(tmp_path, [seen(1)])
    spoilt = "".join(HOSTILE[:2]) + '<img src="http://127.0.0.1:9/a.png">'
    path.write_text(path.read_text().replace("<main>", f"<main>{spoilt}"), encoding="utf-8")

    with browser.open(path) as tab:
        assert tab.evaluate("window.hit ?? null") is None
        assert tab.count("img") == 2
        assert len(tab.errors()) >= 3


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(browser, tmp_path, width, scheme):
    asked = SOURCES[0].question.replace("adults", "long" * 60)
    long = seen(1, question=asked, teacher="t" * 120)
    with browser.open(written(tmp_path, [long]), width=width, scheme=scheme) as tab:
        assert tab.width() == width
        ratio = tab.evaluate(CONTRAST)
        assert min(ratio.values()) >= 4.5, ratio


CONTRAST = """(() => {
  const light = text => { const c = text.match(/[\\d.]+/g).map(Number).slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * c[0] + .7152 * c[1] + .0722 * c[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (c !== 'rgba(0, 0, 0, 0)') return c; } return 'rgb(255, 255, 255)'; };
  const found = {};
  for (const name of ['h1', '.quiet', '#keep', '#drop', '#export', 'del', 'ins', '.chip', '.ask', 'h2']) {
    const e = document.querySelector(name), a = light(getComputedStyle(e).color), b = light(ground(e));
    found[name] = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  }
  return found; })()"""


def test_the_next_pair_starts_at_its_top_on_a_narrow_window_too(browser, tmp_path):
    text = (Passage("RESULTS", "The stay was shorter. " * 200),)
    long = [question(n, sections=text) for n in "12"]
    with browser.open(written(tmp_path, [seen(1), seen(2)], long), width=390) as tab:
        tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        top = "document.getElementById('pair').getBoundingClientRect().top"
        assert tab.evaluate(top) < 0
        tab.click("#drop")
        assert tab.text(".about b") == "local-rewrite:2:0"
        assert tab.evaluate(top) >= 0


def test_five_thousand_pairs_are_ready_in_under_two_seconds_and_few_are_drawn(browser, tmp_path):
    """The best of three tries: the promise is about the page, not about a busy machine."""
    text = "The mean stay was shorter in the group that had the treatment than in the other. " * 18
    sources = [question(str(n), sections=(Passage("RESULTS", text),)) for n in range(1000)]
    rows = [seen(n % 1000, id=f"a:{n}:0", answer=ANSWERS[n % 3]) for n in range(5000)]
    path = written(tmp_path, rows, sources)

    ready = []
    for _ in range(3):
        with browser.open(path) as tab:
            ready.append(float(tab.evaluate("document.documentElement.dataset.readyMs")))
            assert tab.count(".row") < 60
            tab.evaluate("document.getElementById('list').scrollTop = 64 * 4000")
            tab.wait_for("document.getElementById('row-4000')")
    assert min(ready) < 2000


def test_equal_pairs_give_an_equal_page_and_others_another():
    decision = Decision(few()[0].pair.id, content_of(few()[0].pair), "keep", "")

    first = page(few(), SOURCES, [])

    assert first == page(few(), SOURCES, []) != page(few(), SOURCES, [decision])


def test_the_page_of_no_pairs_says_so(browser, tmp_path):
    with browser.open(written(tmp_path, [], [])) as tab:
        assert tab.text("#pair") == "There are no pairs."
        assert tab.errors() == []


def test_kept_and_dropped_pairs_are_read_with_votes_in_the_order_of_ids(tmp_path):
    one, two = pair("2"), pair("1")
    write_jsonl(tmp_path / "checked/a/kept.jsonl", [one])
    text = json.dumps({"pair": dataclasses.asdict(two), "reasons": ["too_long"]})
    (tmp_path / "checked/a/dropped.jsonl").write_text(text + "\n", encoding="utf-8")
    write_jsonl(tmp_path / "votes/a.jsonl", [ballot(one)])

    folders = [tmp_path / name for name in ("checked", "pool", "votes")]

    assert read_seen(*folders, ["a"]) == [
        Seen("a", two, ("too_long",), None),
        Seen("a", one, (), ballot(one)),
    ]
    write_jsonl(tmp_path / "pool/dropped.jsonl", [Dropped(one, ("near_duplicate",))])
    assert read_seen(*folders, ["a"])[1].reasons == ("near_duplicate",)
    with pytest.raises(DataError, match="medslm run check@b"):
        read_seen(*folders, ["b"])
