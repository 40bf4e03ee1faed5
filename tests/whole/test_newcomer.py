"""What somebody who opens the tree for the first time finds: a file for a question, a way in."""

import re
import sys
from pathlib import Path

import counts
import pytest
import torch
from torch import nn

import pytorch_ood_viyog
from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.residue import evidence

PACKAGE = Path(pytorch_ood_viyog.__file__).parent
GUIDE = Path(__file__).parents[2] / "examples" / "docs" / "guide" / "how_it_works.md"

#: question of a newcomer -> the file that answers it, and what it defines there; the guide's table
#: "Where to look" has the same questions
QUESTIONS = {
    "the formula of ViyogTV": ("detectors/tv.py", "def total_variation"),
    "why `predict` leaves no hook": ("layer/hooks.py", ".remove()"),
    "what a verdict is learnt from": ("triage/populations/simulated.py", "def "),
    "which detectors a triage asks": ("triage/rule/default_evidence.py", "def "),
    "how thresholds are calibrated": ("triage/rule/thresholds.py", "class "),
    "how a page of HTML is written": ("evaluation/page/writing.py", "def write_page"),
    "how an attack is cached": ("benchmark/attacks/cache.py", "def read_kept"),
    "which attacks know the detector": ("benchmark/evasion/attacks.py", "ATTACKS"),
    "which checks the contract makes": ("testing/contract.py", "class DetectorContract"),
    "what a saved state holds": ("fitting/saving.py", "def saved_state"),
}


def linked_files(text: str) -> list[str]:
    """:return: files of the package that Markdown links to, from the guide"""
    return re.findall(r"\(\.\./\.\./\.\./pytorch_ood_viyog/([\w/]+\.py)\)", text)


@pytest.mark.parametrize("question", QUESTIONS)
def test_ten_questions_have_a_file_each(question):
    file, defined = QUESTIONS[question]
    assert defined in (PACKAGE / file).read_text(encoding="utf-8")


def test_the_guide_answers_the_same_questions():
    assert len(QUESTIONS) == 10
    table = GUIDE.read_text(encoding="utf-8").partition("Where to look:")[2]
    rows = dict(re.findall(r"^\| (.+?) \| (\[.+) \|$", table, re.MULTILINE))
    assert {question: linked_files(cell)[0] for question, cell in rows.items()} == {
        question: file for question, (file, _) in QUESTIONS.items()
    }


def test_the_way_in_has_at_most_four_files(monkeypatch):
    """The files of detectors and residue that are entered, one by one, up to the formula."""
    detector = ViyogResidue(nn.Conv2d(3, 8, 3)).fit([torch.rand(70, 3, 12, 12)], progress=False)
    passed = []

    def formula(*arguments):
        frame = sys._getframe(1)
        while frame is not None:
            passed.append(Path(frame.f_code.co_filename))
            frame = frame.f_back
        return evidence.score(*arguments)

    monkeypatch.setattr(sys.modules[ViyogResidue.__module__], "score", formula)
    detector.predict(torch.rand(2, 3, 12, 12))
    rooms = [p.relative_to(PACKAGE) for p in reversed(passed) if PACKAGE in p.parents]
    way = [p.as_posix() for p in rooms if p.parts[0] in ("detectors", "residue")]
    way = [*dict.fromkeys(way), "residue/evidence.py"]
    assert len(way) <= 4
    section = GUIDE.read_text(encoding="utf-8").partition("### From `predict` to the formula")[2]
    assert linked_files(section.partition("\n## ")[0]) == way


def test_counts_are_of_what_there_is(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.py").write_text(
        '"""Told\n\nat length."""\n\n# why\nx = 1\n\n\ndef f():\n    "d"\n'
    )
    assert counts.lines(tmp_path) == 10
    assert counts.code_lines(tmp_path) == 2
    counts.main()
    printed = capsys.readouterr().out
    assert re.search(r"package +\d+ lines, +\d+ of code, +\d+ files", printed)
    assert "public detectors: " in printed
    assert "ViyogResidue" in counts.public_detectors()
    assert len(counts.public_detectors()) <= 10
    assert counts.deepest()[0] <= 2
