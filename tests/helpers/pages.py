"""Reads a page of HTML as a browser would, as far as the tests ask."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

#: elements without an end
VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class Element:
    """A tag with its attributes, and the text in it."""

    tag: str
    attributes: dict[str, str | None]
    path: tuple[str, ...]
    text: str = ""

    def __getitem__(self, name):
        return self.attributes.get(name)


@dataclass
class Page(HTMLParser):
    """The elements of a page, in order."""

    elements: list[Element] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()
        self._open: list[Element] = []

    def handle_starttag(self, tag, attrs):
        path = tuple(element.tag for element in self._open)
        element = Element(tag, dict(attrs), path)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> ends nothing"
        assert self._open[-1].tag == tag, f"</{tag}> ends <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def close(self):
        super().close()
        assert not self._open, f"never ended: {[element.tag for element in self._open]}"

    def all(self, tag, **attributes):
        """:return: elements of this tag with these attributes"""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.tag == tag and all(element[n] == v for n, v in wanted.items())
        ]

    def texts(self, tag, **attributes):
        """:return: what they say, spaces and line ends as one space"""
        return [" ".join(element.text.split()) for element in self.all(tag, **attributes)]


def parsed(path):
    """:return: the page in a file, whose tags are closed in order"""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def check_self_contained(path):
    """A page that needs no other file, whose links lead somewhere and whose pictures are told."""
    page = parsed(path)
    assert path.stat().st_size < 5_000_000
    ids = [element["id"] for element in page.elements if element["id"]]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            address = element[name]
            if address is None:
                continue
            assert address.startswith("data:image/") or address[1:] in ids, address[:80]
            assert address.startswith(("data:", "#"))
        named = element["aria-labelledby"]
        assert named is None or named in ids
        assert not [name for name in element.attributes if name.startswith("on")]
    assert not page.all("link")
    assert [script["src"] for script in page.all("script")] == [None]
    for image in page.all("img"):
        assert len(image["alt"]) > 4
        assert int(image["width"]) > 0
        assert int(image["height"]) > 0
    assert page.all("meta", name="viewport")
    assert page.all("html", lang="en")
    return page
