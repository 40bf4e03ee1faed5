"""A page written from plain data, and read back."""

import base64
import io
import re
import shlex
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pages import check_self_contained, parsed

from pytorch_ood_viyog.evaluation import page as pages
from pytorch_ood_viyog.evaluation.page import Card, Picture, Reading, Section, Table, worst_first
from pytorch_ood_viyog.evaluation.page.pictures import image_picture, map_picture
from pytorch_ood_viyog.evaluation.page.writing import origin

pytest.importorskip("jinja2")
image = pytest.importorskip("PIL.Image")
EVIL = "<script>alert('x')</script>\"><img src=http://evil>"


def opened(picture):
    """:return: the picture itself"""
    head, content = picture.source.split(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return image.open(io.BytesIO(base64.b64decode(content)))


@pytest.fixture(scope="module")
def small():
    return image_picture(torch.tensor([[[0.0, 1.0]]]), "two pixels")


def written(section, path, title="A page", summary=("First.", "Second.", "Third.")):
    return pages.write_page(path, title, summary, (section,), {"seed": 3})


def test_what_is_written_can_be_read(small, tmp_path):
    card = Card(
        "dog 3",
        "taken for ADV",
        False,
        (small,),
        (
            Reading("MSP", -0.25, -0.5, 0.02, raises=True),
            Reading("res", 3.0),
            Reading("sum", -3e-16),
        ),
        "second answer 7",
    )
    table = Table(("detector", "AUROC"), (("MSP", "0.5"), ("res", "0.99")), "Means", total=True)
    section = Section("Results", ("A paragraph.",), (table,), (small,), (card,), "a\n b")
    page = check_self_contained(written(section, tmp_path / "new" / "page.html"))
    assert page.texts("h1") == page.texts("title") == ["A page"]
    assert page.texts("p", class_="summary") == ["First. Second. Third."]
    assert page.texts("h2") == ["Results", "How this page was made"]
    assert next((a["href"], a.text) for a in page.all("a")) == ("#part-1", "Results")
    assert page.texts("h3") == ["Means", "dog 3", "Run", "Versions"]
    assert page.texts("p", class_="verdict") == ["taken for ADV ✗ wrong"]
    assert page.texts("p", class_="note") == ["second answer 7"]
    assert page.texts("pre") == ["a b"]
    assert "seed3" in page.texts("tr")
    assert page.texts("tr")[:7] == [
        "detectorAUROC",
        "MSP0.5",
        "res0.99",
        "signalscorelimitp",
        "MSP alarm-0.25-0.50.020",
        "res3––",
        "sum0––",
    ]
    assert [row["class"] for row in page.all("tr")][4:7] == ["alarm", None, None]
    assert len(page.all("table", class_="sortable total")) == 1


def test_an_alarm_is_above_the_limit_of_a_signal_that_raises_one():
    readings = [
        Reading("a", 1.0, 0.5, raises=True),
        Reading("a", 0.5, 0.5, raises=True),
        Reading("a", 1.0, 0.5),
        Reading("a", 1.0, raises=True),
    ]
    assert [reading.alarm for reading in readings] == [True, False, False, False]


def test_the_worst_mistakes_come_first():
    """Four of each, also where they come in parts."""

    @dataclass(frozen=True)
    class Sample:
        right: bool
        severity: float

    samples = [Sample(i % 3 == 0, (7 * i) % 20) for i in range(20)]
    found = worst_first(samples)
    assert [sample.severity for sample in found] == [19, 18, 17, 16, 0, 1, 2, 3]
    assert worst_first(worst_first(samples[:9]) + samples[9:]) == found


def test_names_are_shown_and_not_obeyed(tmp_path):
    picture = Picture("data:image/png;base64,", (1, 1), EVIL, EVIL)
    card = Card(EVIL, EVIL, True, (picture,), (Reading(EVIL, 0.0),), EVIL)
    table = Table((EVIL, EVIL), ((EVIL, EVIL),), EVIL)
    section = Section(EVIL, (EVIL,), (table,), (picture,), (card,), EVIL)
    plain = Section("a", ("a",), (Table(("a", "a"), (("a", "a"),), "a"),), (picture,))
    path = written(section, tmp_path / "evil.html", EVIL, (EVIL,))
    page = check_self_contained(path)
    assert page.texts("h1") == [EVIL]
    assert [img["alt"] for img in page.all("img")] == [EVIL, EVIL]
    assert path.read_text().count("<script>") == 1
    harmless = parsed(written(plain, tmp_path / "plain.html"))
    assert len(page.all("script")) == len(harmless.all("script"))


def test_a_page_loads_nothing_and_has_a_style_for_light_dark_phone_and_print(tmp_path):
    path = written(Section("Empty"), tmp_path / "page.html")
    page = parsed(path)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    assert not re.findall(r"https?://|@import|url\(", path.read_text())
    (style,) = page.texts("style")
    for medium in ("prefers-color-scheme: dark", "max-width: 700px", "@media print"):
        assert medium in style
    names = set(re.findall(r"var\((--\w+)\)", style))
    assert names == set(re.findall(r"(--\w+):", style))
    assert style.count("{") == style.count("}")


class TestPictures:
    def test_small_images_are_lossless(self):
        x = torch.randint(256, (3, 20, 30), generator=torch.Generator().manual_seed(0))
        picture = image_picture(x / 255, "noise")
        assert picture.size == (30, 20)
        assert picture.pixelated
        assert np.array_equal(np.asarray(opened(picture)), x.permute(1, 2, 0))

    def test_large_images_are_made_smaller(self):
        picture = image_picture(torch.rand(1, 300, 600), "noise")
        assert picture.size == opened(picture).size == (224, 112)
        assert opened(picture).mode == "L"
        assert not picture.pixelated

    def test_32_noise_images_with_maps_fit_into_a_page(self):
        x = torch.rand(3, 500, 500)
        together = len(image_picture(x, "noise").source) + len(map_picture(x[0], "map").source)
        assert 32 * together < 4_500_000

    @pytest.mark.parametrize("shape", [(2, 8, 8), (8,), (3, 8)])
    def test_what_is_no_image_has_no_picture(self, shape):
        assert image_picture(torch.rand(shape), "signal") is None

    def test_map(self):
        pytest.importorskip("matplotlib")
        strengths = torch.tensor([[0.0, 4.0], [8.0, 16.0], [32.0, 0.0]]) / 255
        picture = map_picture(strengths, "map")
        assert picture.caption == "residue in 1/255, black 0 to bright 16: median 4.0, most 32.0"
        (black, quarter), (half, top), (above, _) = np.asarray(opened(picture)).astype(int)
        brightness = [int(pixel.sum()) for pixel in (black, quarter, half, top)]
        assert brightness == sorted(brightness)
        assert len(set(brightness)) == 4
        assert top.tolist() == above.tolist()


def test_origin_has_command_versions_and_seeds(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["/home/me/bin/python3", "run.py", "--name", "a b"])
    section = origin({"seed": 3})
    run, versions = ({row[0]: row[1] for row in table.rows} for table in section.tables)
    assert run["command"] == "python3 run.py --name 'a b'"
    assert shlex.split(run["command"])[-1] == "a b"
    assert run["seed"] == "3"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", run["made"])
    assert torch.__version__.startswith(versions["torch"])
    assert {"Python", "pytorch-ood", "numpy"} <= set(versions)
    assert not [value for value in versions.values() if not value]


@pytest.mark.parametrize(
    ("module", "told"), [("jinja2", "Jinja2"), ("PIL.Image", "Pillow"), ("matplotlib", "")]
)
def test_what_is_missing_is_told(monkeypatch, module, told):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{told}.*pip install 'pytorch-ood-viyog\["):
        pages.check_extra()
