"""The examples of distributed fitting and of scoring a folder."""

import csv
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from scripts import run_process, run_script

EXAMPLES = Path(__file__).parents[2] / "examples" / "deployment"


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_torchrun_ends_with_the_state_of_one_process(tmp_path):
    script, alone, together = EXAMPLES / "fit_torchrun.py", tmp_path / "1.pt", tmp_path / "2.pt"
    run_script(script, "--quick", "--out", alone)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    printed = run_process(*launcher, script, "--quick", "--out", together)
    assert "fitted by 2 process(es) on 96 images" in printed
    one, two = (torch.load(path, weights_only=True) for path in (alone, together))
    assert one["class"] == two["class"] == "ViyogResidue"
    for name, tensor in one["tensors"].items():
        torch.testing.assert_close(two["tensors"][name], tensor, rtol=1e-9, atol=1e-12)


def test_scoring_goes_on_where_it_was_stopped(tmp_path):
    image = pytest.importorskip("PIL.Image")
    script, state, folder = EXAMPLES / "score_folder.py", tmp_path / "s.pt", tmp_path / "images"
    run_script(EXAMPLES / "fit_torchrun.py", "--quick", "--detector", "ViyogTV", "--out", state)
    (folder / "inner").mkdir(parents=True)
    for number in range(10):
        pixels = (255 * torch.rand(40, 36, 3)).byte().numpy()
        image.fromarray(pixels).save(folder / "inner" / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    command = [script, "--state", state, "--images", folder, "--size", 32, "--batch-size", 4]
    out = tmp_path / "scores.csv"
    assert "11 images scored" in run_script(*command, "--out", out)
    rows = table(out)
    assert len(rows) == 11
    by_name = {row["file"]: row for row in rows}
    assert by_name["broken.png"]["score"] == ""
    assert "UnidentifiedImageError" in by_name["broken.png"]["error"]
    assert all(float(row["score"]) > 0 for name, row in by_name.items() if "inner" in name)

    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:7]) + lines[7][:5])  # cut off in the middle of a line
    assert "5 images scored" in run_script(*command, "--out", out)
    assert {row["file"]: row for row in table(out)} == by_name
    assert "0 images scored" in run_script(*command, "--out", out)


def test_a_table_with_other_columns_is_not_continued(tmp_path):
    out = tmp_path / "scores.csv"
    out.write_text("file,score,error\na.png,1.5,\n")
    with pytest.raises(ValueError, match="name a new file"):
        run_script(EXAMPLES / "score_folder.py", "--quick", "--out", out)
    assert out.read_text() == "file,score,error\na.png,1.5,\n"


def test_score_folder_quick(tmp_path):
    out = tmp_path / "scores.csv"
    assert "24 images scored" in run_script(EXAMPLES / "score_folder.py", "--quick", "--out", out)
    assert len(table(out)) == 24


def test_speed_quick(tmp_path):
    pytest.importorskip("viyog")
    run_script(EXAMPLES.parent / "benchmarks" / "speed.py", "--quick", "--out", tmp_path)
    report = (tmp_path / "speed_cpu.md").read_text()
    rows = table(tmp_path / "speed_cpu.csv")
    jobs = {row["job"] for row in rows if row["batch"] == "2" and row["device"] == "cpu"}
    assert {"Viyog.predict", "ViyogTV.predict", "ViyogResidue.predict"} < jobs
    for row in rows:
        assert row["job"] in report
        assert float(row["low"]) <= float(row["median"]) <= float(row["high"])
    by_job = {row["job"]: row for row in rows if row["batch"] == "2"}
    assert float(by_job["first convolution"]["per_convolution"]) == 1
    # what needs a few channels alone makes no copy of the maps
    maps = int(by_job["ViyogTV.predict"]["maps_memory"])
    assert maps == 4 * 2 * 64 * 32 * 32
    assert int(by_job["ViyogTV.predict"]["peak_memory"]) < maps
    # and what needs all of them never has them together; the rest are the scores
    assert int(by_job["Viyog.predict"]["peak_memory"]) <= 1.01 * maps


def test_speed_before_measures_two_builds(tmp_path):
    script = EXAMPLES.parent / "benchmarks" / "speed_before.py"
    head = ["git", "-C", str(script.parent), "rev-parse", "--verify", "-q", "HEAD"]
    if shutil.which("git") is None or subprocess.run(head, capture_output=True).returncode:
        pytest.skip("no git repository")
    run_script(script, "--quick", "--before", "HEAD", "--out", tmp_path, "--cache", tmp_path)
    page = (tmp_path / "speed_before.md").read_text()
    assert "| predict_features, ResNet-18 (3x3 stem) |" in page
    assert "× forward pass |" in page
    assert "- predict, at most 1.02 × before: " in page
    assert "- predict SecondLook, 32 px, at most 3.0 × forward pass: " in page
    assert "224 px" not in page
