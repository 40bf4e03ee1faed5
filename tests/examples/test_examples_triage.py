"""The examples of SharedForward and Triage run with what a user gives them."""

import re
from pathlib import Path

import pytest
import torch
from scripts import run_script

EXAMPLES = Path(__file__).parents[2] / "examples" / "detectors"
SOURCES = ("digit", "photograph", "attacked digit", "noisy digit")


def run(script, *arguments):
    return run_script(EXAMPLES / script, "--quick", *arguments)


def test_shared_forward():
    printed = run("shared_forward.py")
    assert "the same scores of msp, energy, mahalanobis, knn, residue, tv" in printed
    assert re.search(
        r"score \d+ images: each alone [\d.]+ s, shared [\d.]+ s, -?\d+% saved", printed
    )
    assert "'logits': (397, 10)" in printed


@pytest.fixture(scope="module")
def triage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triage")
    return run("triage.py", "--out", folder), folder


def test_triage_gives_each_image_of_the_stream_an_action(triage):
    printed, _ = triage
    lines = re.findall(rf"^({'|'.join(SOURCES)}) +(ID|OOD|ADV|NOISY) +(\w+)", printed, re.M)
    assert [source for source, _, _ in lines] == [each for each in SOURCES for _ in range(3)]
    actions = {"ID": "answer", "OOD": "abstain", "ADV": "reject", "NOISY": "answer"}
    assert all(actions[verdict] == action for _, verdict, action in lines)


def test_triage_reports_and_draws(triage):
    printed, folder = triage
    balanced, alarms = re.search(r"accuracy ([\d.]+), ID false alarms ([\d.]+)%", printed).groups()
    assert float(balanced) > 1 / 4
    assert float(alarms) < 20
    for figure in ("confusion.png", "scores.png"):
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
    assert torch.load(folder / "triage.pt", weights_only=True)["class"] == "Triage"
