"""The parts that the tables of pretrained classifiers rest on, on small networks."""

import math
import sys
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from torch import nn

from pytorch_ood_viyog.benchmark.attacks import Square

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
photographs = import_module("photographs")
scores = import_module("pretrained_scores")
separated = import_module("separated")
pretrained = import_module("pretrained")
keep = import_module("tables").keep


def coloured(n, size=8):
    """Flat images, image i of level i."""
    return np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(size, 1).repeat(size, 2)


def test_encoded_images_of_a_file_keep_their_order(tmp_path):
    blobs = []
    for image in coloured(5).repeat(3, axis=3):
        blobs.append(BytesIO())
        Image.fromarray(image).save(blobs[-1], "png")
    encoded = [np.frombuffer(blob.getvalue(), np.uint8) for blob in blobs]
    offsets = np.cumsum([0, *map(len, encoded)])
    path = tmp_path / "photos.npz"
    np.savez(path, some_blob=np.concatenate(encoded), some_offsets=offsets)
    images = photographs.read_images(f"{path}:some", 8)
    assert images.shape == (5, 3, 8, 8)
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"has no images named 'other', but \['some'\]"):
        photographs.read_images(f"{path}:other", 8)
    with pytest.raises(ValueError, match=r"images of \(8, 8\) pixels, not 9"):
        photographs.read_images(f"{path}:some", 9)


def test_images_of_a_folder_are_shuffled_alike_each_time(tmp_path):
    for i, image in enumerate(coloured(12).repeat(3, axis=3)):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    levels = [
        (photographs.read_images(str(tmp_path), 8)[:, 0, 0, 0] * 255).round().tolist()
        for _ in range(2)
    ]
    assert levels[0] == levels[1] != sorted(levels[0])
    assert sorted(levels[0]) == list(range(12))


def test_parts_are_disjoint_and_large_enough():
    images = torch.arange(100.0).view(100, 1, 1, 1)
    parts = photographs.split_photographs(images, fit=40, attacked=30)
    assert [len(p) for p in (parts.fit, parts.attacked, parts.test)] == [40, 30, 30]
    assert torch.equal(torch.cat([parts.fit, parts.attacked, parts.test]), images)
    for fit, attacked in ((60, 30), (90, 20), (40, 10)):
        with pytest.raises(ValueError, match="100 images are not enough"):
            photographs.split_photographs(images, fit, attacked)


@pytest.fixture(scope="module")
def setting():
    """A small network, images, and their attacks."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 6)).eval()
    smooth = nn.functional.avg_pool2d(torch.rand(140, 3, 16, 16), 3, stride=1, padding=1)
    parts = photographs.split_photographs((smooth * 255).round() / 255, fit=90, attacked=25)
    with torch.no_grad():
        model[-1].bias -= model(smooth).mean(0)
    trials = {
        "few": scores.Trial(Square(8 / 255, queries=3), share=0.4),
        "all": scores.Trial(Square(16 / 255, queries=30)),
    }
    return model, parts, trials


def test_answers_of_the_model_are_attacked_and_stored(setting, tmp_path, capsys):
    model, parts, trials = setting
    found = scores.craft_all(model, trials, parts.attacked, tmp_path)
    assert [found[name].size.attacked for name in ("few", "all")] == [10, 25]
    assert found["all"].size.succeeded > 0
    assert "few: " in capsys.readouterr().out
    batches = sum(math.ceil(n / scores._BATCH) for n in (10, 25))
    assert len(list(tmp_path.glob("*/*.pt"))) == batches


def test_all_detectors_score_all_groups(setting, tmp_path):
    model, parts, trials = setting
    adv = scores.craft_all(model, trials, parts.attacked, tmp_path)["all"].x
    found = scores.score_all(model, parts, {"id": parts.test, "all": adv, "dark": parts.test / 4})
    assert set(scores.OURS) < set(found)
    assert {"MSP", "Energy", "kNN", "ViM", "MultiMahalanobis"} < set(found)
    for of in found.values():
        assert {name: len(values) for name, values in of.items()} == {
            "id": len(parts.test),
            "all": len(adv),
            "dark": len(parts.test),
        }
        assert all(values.isfinite().all() for values in of.values())
    rows = separated.metric_rows("net", found, ["all"], ["dark"])
    assert len(rows) == len(found) * 2
    assert {row["negatives"] for row in rows} == {"id", "dark"}


def rows(**values):
    """Rows of two OOD sets and ID for one attack: detector -> (ID, one set, other set)."""
    return pandas.DataFrame(
        {"model": "net", "detector": detector, "attack": "pgd8", "negatives": negatives}
        | {"n_negatives": 30, "n_adv": 20, "AUROC": auroc, "FPR95": 1 - auroc}
        | {"kind": "L∞", "attacked": 25, "succeeded": 20, "linf": 8.0, "rms": 6.0}
        for detector, aurocs in values.items()
        for negatives, auroc in zip(("id", "sea", "text"), aurocs, strict=True)
    )


RESULTS = rows(
    ViyogResidue=(0.75, 1.0, 0.998),
    ResidueOutlier=(0.6, 0.2, 0.2),
    ViyogTV=(0.5, 0.6, 0.4),
    Viyog=(0.5, 0.5, 0.5),
    Energy=(0.1, 0.2, 0.3),
    kNN=(0.9, 0.7, 0.1),
    ViM=(0.8, 0.7, 0.1),
)


def test_table_gives_mean_worst_and_best(tmp_path):
    text = separated.auroc_table(RESULTS[RESULTS["negatives"] != "id"])
    assert "| ViyogResidue | **0.999** (1.00) |" in text
    assert "| ViyogTV | 0.500 (0.40) |" in text
    attacks = RESULTS.drop_duplicates("attack")
    whole = separated.report("# About", RESULTS, attacks, pretrained.TARGETS, "figure.png")
    assert "| ID-vs-ADV pgd8, AUROC ≥ 0.995 | **0.750** |" in whole  # missed
    assert "| OOD-vs-ADV pgd8, AUROC ≥ 0.999 | 0.999 |" in whole
    assert "| OOD-vs-ADV pgd8, FPR95 ≤ 0.01 | 0.001 |" in whole
    assert "| ID-vs-ADV pgd1, AUROC ≥ 0.9 |  |" in whole  # not run
    assert "| net | pgd8 | 25 | 20 | 8.0 | 6.00 |" in whole
    separated.draw(RESULTS, tmp_path / "figure.png", pretrained.SHOWN)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_rows_of_other_models_stay_and_those_of_a_model_are_replaced(tmp_path):
    path = tmp_path / "table.csv"
    keep([{"model": "b", "value": 1.0}, {"model": "a", "value": 2.0}], path)
    table = keep([{"model": "b", "value": 3.0}], path)
    assert table.to_dict("list") == {"model": ["a", "b"], "value": [2.0, 3.0]}
    assert pandas.read_csv(path).to_dict("list") == table.to_dict("list")
