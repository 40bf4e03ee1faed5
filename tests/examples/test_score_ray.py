"""Scoring by Ray Data with two workers: folders, Parquet, going on, broken images."""

from pathlib import Path

import pytest
import torch
from scripts import run_process
from torch import nn

pytest.importorskip("ray.data")
pq = pytest.importorskip("pyarrow.parquet")
image = pytest.importorskip("PIL.Image")

SCALE = Path(__file__).parents[2] / "examples" / "scale"
COUNT, SIZE = 240, 32


def run(script, *arguments):
    return run_process(SCALE / script, *arguments)


@pytest.fixture(scope="module")
def judges():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCALE)
        import judges
    return judges


@pytest.fixture(scope="module")
def pixels():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(COUNT, 3, SIZE + 8, SIZE + 8, generator=generator)
    smooth = nn.functional.avg_pool2d(noise, 9, stride=1) + 0.02 * noise[..., 4:-4, 4:-4]
    return (255 * smooth).round().clamp(0, 255).byte()


@pytest.fixture(scope="module")
def folder(pixels, tmp_path_factory):
    """A few hundred images, one grey in 16 bit and the same in 8, one of them broken."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "inner").mkdir()
    for number, values in enumerate(pixels):
        file = folder / "inner" / f"{number:03d}.png"
        image.fromarray(values.permute(1, 2, 0).numpy()).save(file)
    deep = pixels[0].permute(1, 2, 0).numpy().mean(axis=2).astype("uint16") * 257
    image.fromarray(deep).save(folder / "deep.png")
    image.fromarray((deep // 257).astype("uint8")).save(folder / "flat.png")
    (folder / "broken.png").write_bytes((folder / "inner" / "000.png").read_bytes()[:90])
    return folder


@pytest.fixture(scope="module")
def triage(judges, pixels, tmp_path_factory):
    """A fitted triage, and the file of its state."""
    x = pixels.float() / 255
    triage = judges.JUDGES["Triage"](judges.build_model("resnet18"))
    triage.fit([(x[:120], torch.zeros(120))], [x[120:]], progress=False)
    path = tmp_path_factory.mktemp("state") / "triage.pt"
    torch.save(triage.state_dict(), path)
    return triage, path


def rows(out):
    found = pq.read_table(out).to_pylist()
    by_path = {row["path"]: row for row in found}
    assert len(found) == len(by_path), "no image stands there twice"
    return by_path


def test_a_triage_scores_a_folder_and_goes_on(triage, pixels, folder, tmp_path):
    judge, state = triage
    out = tmp_path / "scores"
    command = ["score_ray.py", "--state", state, "--images", folder, "--size", SIZE, "--out", out]
    assert f"{COUNT + 3} images scored" in run(*command, "--workers", 2)
    found = rows(out)
    broken = found.pop("broken.png")
    assert broken.pop("path") == "broken.png"
    assert "Error" in broken.pop("error")
    assert set(broken.values()) == {None}

    deep, flat = found.pop("deep.png"), found.pop("flat.png")
    for name, value in flat.items():  # 16 bit are scaled, not clipped to white
        expected = value if not isinstance(value, float) else pytest.approx(value, abs=1e-6)
        assert name == "path" or deep[name] == expected

    explained = judge.explain(pixels.float() / 255)
    table = [found[f"inner/{number:03d}.png"] for number in range(COUNT)]
    names = {0: "ID", 1: "OOD", -1: "ADV", 2: "NOISY"}
    assert [row["verdict"] for row in table] == [names[v] for v in explained.verdicts.tolist()]
    assert {row["error"] for row in table} == {None}
    kinds = ("ID", "OOD", "ADV", "NOISY")
    for kind, expected in zip(kinds, explained.posterior.unbind(dim=1), strict=True):
        shares = torch.tensor([row[f"posterior_{kind}"] for row in table], dtype=torch.float64)
        torch.testing.assert_close(shares, expected, rtol=1e-3, atol=1e-3)
    for name, expected in explained.p_values.items():
        p_values = torch.tensor([row[f"p_{name}"] for row in table], dtype=torch.float64)
        assert (p_values - expected).abs().max() <= 1 / 60

    first, *others = sorted(out.glob("*.parquet"))  # stopped in the middle of a file
    lost = pq.read_table(first).num_rows
    assert others
    first.write_bytes(first.read_bytes()[:-20])
    assert f"{lost} images scored" in run(*command)
    assert {path: row["verdict"] for path, row in rows(out).items()} == (
        {path: row["verdict"] for path, row in found.items()}
        | {"broken.png": None, "deep.png": deep["verdict"], "flat.png": flat["verdict"]}
    )
    assert "0 images scored" in run(*command)


def test_a_detector_scores_parquet(triage, pixels, folder, tmp_path):
    pa = pytest.importorskip("pyarrow")
    router, shards = triage[0].pipeline["ViyogResidue"], tmp_path / "shards"
    torch.save(router.state_dict(), tmp_path / "fitted.pt")
    shards.mkdir()
    files = [*sorted((folder / "inner").glob("*.png"))[:20], folder / "broken.png"]
    for number in range(2):
        part = files[number::2]
        columns = {"path": [f.name for f in part], "image": [f.read_bytes() for f in part]}
        pq.write_table(pa.table(columns), shards / f"{number}.parquet")
    command = ["score_ray.py", "--state", tmp_path / "fitted.pt", "--images", shards, "--parquet"]
    run(*command, "--size", SIZE, "--out", tmp_path / "scores", "--batch-size", 4)
    found = rows(tmp_path / "scores")
    assert "Error" in found["broken.png"]["error"]
    expected = router(pixels[:20].float() / 255).double()
    scores = torch.tensor([found[f"{number:03d}.png"]["score"] for number in range(20)])
    torch.testing.assert_close(scores.double(), expected, rtol=1e-4, atol=1e-4)


def test_workers_fit_what_one_process_fits(judges, pixels, folder, tmp_path):
    images = folder / "inner"
    run("fit_ray.py", "--images", images, "--size", SIZE, "--out", tmp_path / "fitted.pt")
    state = torch.load(tmp_path / "fitted.pt", weights_only=True)
    alone = judges.JUDGES["ViyogResidue"](judges.build_model("resnet18"))
    expected = alone.fit([pixels.float() / 255], progress=False).state_dict()
    assert state["layer"] == expected["layer"] == "conv1"
    for name, tensor in expected["tensors"].items():
        torch.testing.assert_close(state["tensors"][name], tensor, rtol=1e-6, atol=1e-8)
