"""The browser helper sees what a page does, so that a test which finds nothing means something."""

from __future__ import annotations

PAGE = """<!doctype html><meta charset="utf-8"><title>t</title>
<style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } }</style>
<input id="field"><button id="button">press</button><p id="said"></p>
<select id="list"><option value="a">a<option value="b">b</select>
<script>
document.addEventListener("keydown", e => { said.textContent += e.key; });
button.onclick = () => { said.textContent = "clicked"; };
list.onchange = () => { said.textContent = list.value; };
</script>"""


def written(folder, text):
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_page_hears_keys_clicks_and_choices(browser, tmp_path):
    with browser.open(written(tmp_path, PAGE)) as tab:
        tab.press("k", "ArrowDown", "Enter")
        assert tab.text("#said") == "kArrowDownEnter"
        tab.click("#button")
        assert tab.text("#said") == "clicked"
        tab.choose("#list", "b")
        assert tab.text("#said") == "b"
        tab.click("#field")
        tab.type("µ and \u2028")
        assert tab.evaluate("field.value") == "µ and \u2028"
        assert tab.errors() == []
        assert tab.requests() == []


def test_errors_and_requests_are_seen(browser, tmp_path):
    spoilt = PAGE + '<img src="http://127.0.0.1:9/a.png"><script>console.error("no"); f()</script>'

    with browser.open(written(tmp_path, spoilt)) as tab:
        tab.wait_for("true")
        assert tab.requests() == ["http://127.0.0.1:9/a.png"]
        assert len(tab.errors()) >= 2


def test_size_and_colours_are_those_asked_for(browser, tmp_path):
    page = written(tmp_path, PAGE)

    with browser.open(page, width=390, scheme="dark") as dark, browser.open(page) as light:
        colour = "getComputedStyle(document.body).backgroundColor"
        assert (dark.width(), dark.evaluate(colour)) == (390, "rgb(0, 0, 0)")
        assert (light.width(), light.evaluate(colour)) == (1280, "rgb(255, 255, 255)")
        light.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
