"""What a browser would make of a page: its elements, its text, and whatever could run or load."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# elements that run something, load something or move the reader elsewhere
FORBIDDEN = {"script", "iframe", "object", "embed", "link", "base", "form", "img", "image", "use"}
FORBIDDEN |= {"audio", "video", "source", "a", "animate", "set", "foreignobject"}


class Page(HTMLParser):
    """A parsed page: `elements` as (tag, attributes), `text`, and the text of its style sheets."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.styles = ""
        self._in_style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles += data
        else:
            self.text += data

    def live_parts(self) -> list[str]:
        """Return everything on the page that could run or load something."""
        found = [tag for tag, _ in self.elements if tag in FORBIDDEN]
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                if name.startswith("on") or name in {"src", "href", "xlink:href", "style"}:
                    found.append(f"{tag} {name}")
                if re.search(r"https?:|javascript:|//", value):
                    found.append(f"{tag} {name}={value}")
        if re.search(r"url\(|@import|expression\(", self.styles):
            found.append("style sheet loads something")
        return found
