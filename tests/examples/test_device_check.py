"""What runs on a device, tried on the processor."""

import sys
from importlib import import_module
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))


def test_a_check_is_a_row_and_so_is_one_that_fails(tmp_path, monkeypatch):
    device_check = import_module("device_check")

    def broken(setting):
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setitem(device_check.CHECKS, "fit", broken)
    page = tmp_path / "new" / "device.md"
    options = ["--device", "cpu", "--quick", "--only", "waits", "channels_last", "fit"]
    monkeypatch.setattr(sys, "argv", ["device_check.py", *options, "--out", str(page)])
    device_check.main()
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line[:2] == "| "][1:]
    found = {row[0].strip("| "): row[1] for row in rows}
    assert list(found) == ["waits", "channels_last", "fit"]
    assert int(found["waits"].split()[0]) <= 5
    assert float(found["channels_last"].split()[-1]) < 1e-3
    assert found["fit"] == "**RuntimeError**: no such kernel"


def test_waits_are_what_a_gpu_would_be_waited_for():
    device_check = import_module("device_check")
    x = torch.tensor([0.0, 2.0])
    with device_check.Waits() as counted:
        (x + 1).relu()
        assert not counted.found
        float(x.max())
        x.nonzero()
        x[x > 1]
        x[torch.tensor([0])]
    assert counted.found == {"_local_scalar_dense": 1, "nonzero": 1, "index": 1}
