"""Which pages of results are current, and what a page says of where it comes from."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
sys.path.append(str(BENCHMARKS))
every = import_module("all")
sources = import_module("sources")
tables = import_module("tables")
#: the overview of four pages
UNSIGNED = {"evasion.md"}
THREE_DIGITS = re.compile(r"(?<![\d.])\d?\.\d{3}(?![\d.])")


def names(script):
    return {file.name for file in sources.sources(BENCHMARKS / script)}


def test_the_files_behind_a_script():
    found = names("evasion.py")
    assert {"evasion.py", "evasion_report.py", "prepare.py", "attacks.py", "features.py"} <= found
    # rooms that pass a name on lead to what they pass on alone
    assert not {"onnx_file.py", "contract.py", "foreign_list.py"} & found
    assert "second_look.py" in found
    assert "second_look.py" not in names("separation.py")


def test_a_fingerprint_is_of_the_code(tmp_path):
    texts = ("x = 1\n", '"""Told."""\n\n# why\nx  =  1\n', "x = 2\n")
    prints = []
    for number, text in enumerate(texts):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "script.py").write_text(text)
        prints.append(sources.fingerprint(folder / "script.py"))
    assert prints[0] == prints[1] != prints[2]


def test_a_page_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(every, "RESULTS", tmp_path)
    page = every.Page(("a.md",), "speed.py --quick")
    assert page.why_stale() == "a.md not there"
    tables.save_page(tmp_path / "a.md", "# A\n", BENCHMARKS / "speed.py")
    last = (tmp_path / "a.md").read_text().splitlines()[-1]
    assert last.startswith("*Made on 2")
    assert last.endswith(".*")
    for part in ("by speed.py, commit ", "minutes of CPU time", "torch ", "pytorch-ood "):
        assert part in last
    assert page.why_stale() == ""
    assert re.search(r"a.md .* min  current\n0 of 1 stale", every.listing((page,)))
    code = sources.fingerprint(page.script)
    (tmp_path / "a.md").write_text(last.replace(code, "0" * len(code)))
    assert "since then" in page.why_stale()
    assert "1 of 1 stale" in every.listing((page,))


def test_what_is_stale_is_made_and_signed(tmp_path, monkeypatch):
    monkeypatch.setattr(every, "RESULTS", tmp_path)
    monkeypatch.setattr(every, "FOLDER", tmp_path)
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    script = "import pathlib, sys\npathlib.Path(sys.argv[1], 'b.md').write_text('# B\\n')\n"
    (tmp_path / "b.py").write_text(script)
    page = every.Page(("b.md",), "b.py {results}")
    assert every.make(page, {"results": str(tmp_path)})
    assert page.why_stale() == ""
    (tmp_path / "b.py").write_text("raise SystemExit(1)")
    assert not every.make(page, {"results": str(tmp_path)})


def test_no_page_is_forgotten():
    known = {name for page in every.PAGES for name in page.files}
    written = {path.name for path in every.RESULTS.glob("*.md")}
    assert written - known <= UNSIGNED


def test_texts_quote_pages_that_can_be_made_anew():
    """A link to a page of results in README or guide is one that the command knows."""
    root = BENCHMARKS.parents[1]
    known = {name for page in every.PAGES for name in page.files} | UNSIGNED
    texts = [root / "README.md", *(root / "examples" / "docs").rglob("*.md")]
    texts += (root / "examples" / "docs").rglob("*.rst")
    for text in texts:
        quoted = set(re.findall(r"results/([\w-]+\.md)", text.read_text(encoding="utf-8")))
        assert quoted <= known, text


@pytest.mark.parametrize("name", ["README.md", "examples/docs/guide/measured.md"])
def test_numbers_in_texts_stand_in_the_pages_that_they_quote(name):
    """Numbers of three digits; those of the quickstart's table are checked where it is run."""
    text = (BENCHMARKS.parents[1] / name).read_text(encoding="utf-8")
    quoted = {"speed_cpu.md", *re.findall(r"results/([\w-]+\.md)", text)}  # by way of Cost
    text = re.sub(r"## Detectors.*?```python", "", text, flags=re.DOTALL)
    pages = [(every.RESULTS / page).read_text(encoding="utf-8") for page in quoted]
    known = {number.lstrip("0") for page in pages for number in THREE_DIGITS.findall(page)}
    told = {number.lstrip("0") for number in THREE_DIGITS.findall(text)}
    assert len(told) > 15
    assert told <= known


def test_the_table_of_prices_in_the_guide_is_that_of_its_page():
    names = {"gtsrb-3x3": "traffic signs", "cifar10-3x3": "CIFAR-10", "photo15-3x3": "photos"}
    guide = BENCHMARKS.parents[1] / "examples" / "docs" / "guide" / "evasion.rst"
    told = {tuple(re.split(r"  +", line)[:9]) for line in guide.read_text("utf-8").splitlines()}
    page = (every.RESULTS / "evasion.md").read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", line.strip("| ")) for line in page.splitlines()]
    known = [row for row in rows if row[0] in names]
    assert len(known) == 9
    for images, _, system, *shares in known:
        system = system if system == "classifier alone" else f"``{system}``"
        shown = [share if share == "1.00" else share.lstrip("0") for share in shares[:7]]
        assert (names[images], system, *shown) in told


def test_rows_of_others_stay(tmp_path):
    path = tmp_path / "t.csv"
    tables.keep([{"config": "b", "value": 1}, {"config": "a", "value": 2}], path, "config")
    table = tables.keep([{"config": "b", "value": 3}], path, "config")
    assert list(zip(table["config"], table["value"], strict=True)) == [("a", 2), ("b", 3)]


@pytest.mark.parametrize("page", every.PAGES, ids=lambda page: page.files[0])
def test_scripts_are_there(page):
    assert page.script.is_file()
