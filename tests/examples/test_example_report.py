"""The example of a report that the documentation keeps."""

import re
from pathlib import Path

import pytest
from pages import check_self_contained

PAGE = Path(__file__).parents[2] / "examples" / "docs" / "figures" / "report.html"
KINDS = ["ID", "OOD", "ADV", "NOISY"]


@pytest.fixture(scope="module")
def page():
    return check_self_contained(PAGE)


def test_it_is_small_and_names_no_machine():
    assert PAGE.stat().st_size < 1_500_000
    text = re.sub(r"data:image/[^\"]*", "", PAGE.read_text(encoding="utf-8"))
    assert not re.findall(r"(?:/home|/root|/tmp|/usr|/opt)/", text)


def test_it_has_all_kinds_with_scores_verdicts_and_second_answers(page):
    heads = page.texts("h2")
    assert [f"{kind} samples" for kind in KINDS] == [h for h in heads if h.endswith("samples")]
    cards = page.texts("article")
    assert len(cards) >= 4 * 4
    assert all(re.search(r"taken for (ID|OOD|ADV|NOISY)", card) for card in cards)
    assert any("asked again: class" in note for note in page.texts("p", class_="note"))
    assert "commandpython examples/detectors/report.py" in page.texts("tr")


def test_the_worst_mistakes_come_first(page):
    """Within each kind: no wrong card after a right one."""
    marks = ["w" if card["class"] == "card wrong" else "r" for card in page.all("article")]
    assert re.fullmatch(r"(w*r*){4}", "".join(marks))
    assert "w" in marks
