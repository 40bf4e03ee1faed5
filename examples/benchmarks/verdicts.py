"""What verdicts are worth: the learnt rule beside the two cascades that came before it.

.. code-block:: bash

    python examples/benchmarks/verdicts.py --data DATA_FOLDER

The cascades are run on a checkout of the commit before, in a temporary folder. Rows "without ..."
are learnt without one family of simulated attacks, to show what generalises; nothing like Square,
sparse, rotated and patch attacks is simulated at all. Results are kept in the cache: an
interrupted run goes on where it stopped.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from options import benchmark_parser
from pytorch_ood.detector import EnergyBased
from sources import key, stored
from tables import keep
from torch import Tensor
from verdict_images import PRETRAINED, UNSEEN, Material, pretrained_material, small_material
from verdict_report import report

from pytorch_ood_viyog import Triage, Verdict
from pytorch_ood_viyog.triage.populations.verdict import ORDER

#: the last commit with cascades
BEFORE = "a37a249"
SMALL = ("gtsrb-3x3", "photo15-3x3", "photo15-7x7", "cifar10-3x3")
RULES: dict[str, dict[str, object]] = {
    "learnt": {},
    "learnt, look always": {"look": "always"},
    "learnt, look never": {"look": "never"},
    "without minimal L2": {"leave_out": ("minimal",)},
    "without smooth": {"leave_out": ("smooth",)},
}
#: columns of the table: label, and what it is of one model's shares
_BATCH = 50
Shares = dict[str, dict[str, float]]
Row = dict[str, object]


def judged(material: Material, options: dict[str, object]) -> tuple[dict[str, Tensor], Row]:
    """
    :param material: images
    :param options: arguments of ``Triage``
    :return: group -> verdicts, and what was measured besides: CPU seconds of the fit, share of
        ID images that were asked about again, CPU time of ``predict`` in forward passes on ID
        images, the expected calibration error on a mixture of all four, and how much more of OOD
        is found than by a plain gate
    """
    triage = Triage(material.model, **options)  # type: ignore[arg-type]
    train = list(zip(material.fit.split(_BATCH), material.labels.split(_BATCH), strict=True))
    start = time.process_time()
    triage.fit(train, list(material.calibration.split(_BATCH)), progress=False)
    more: Row = {"fit_cpu_s": time.process_time() - start}
    found, posteriors = {}, {}
    for group, x in material.groups.items():
        parts = [triage.explain(part) for part in x.split(_BATCH)]
        found[group] = torch.cat([part.verdicts for part in parts])
        posteriors[group] = torch.cat([part.posterior for part in parts])
        if group == "id":
            more["asked"] = float(torch.cat([part.asked for part in parts]).double().mean())
    more["ece"] = calibration_error(posteriors)
    ood = [group for group in found if group.startswith("ood/")]
    called = sum(float((found[g] == int(Verdict.OOD)).double().mean()) for g in ood) / len(ood)
    alarms = float((found["id"] != int(Verdict.ID)).double().mean())
    more["OOD beyond the gate"] = called - gate_share(material, ood, alarms)
    clean = material.groups["id"][:200]
    plain = cpu_time(lambda: [material.model(part) for part in clean.split(_BATCH)])
    predict = cpu_time(lambda: [triage.predict(part) for part in clean.split(_BATCH)])
    more["passes"] = predict / plain
    return found, more


def gate_share(material: Material, ood: list[str], alarms: float) -> float:
    """:return: mean share of OOD sets that Energy alone finds with so many alarms on ID images"""
    gate = EnergyBased(material.model)

    def scores(x: Tensor) -> Tensor:
        return torch.cat([gate.predict(part) for part in x.split(_BATCH)])

    limit = scores(material.groups["id"]).quantile(1 - alarms)
    return sum(float((scores(material.groups[g]) > limit).double().mean()) for g in ood) / len(ood)


@torch.no_grad()
def cpu_time(work: Callable[[], object], repeats: int = 3) -> float:
    """:return: the least CPU time of several repeats, in seconds"""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def calibration_error(posteriors: dict[str, Tensor], bins: int = 10) -> float:
    """
    :param posteriors: group -> probabilities of ID, OOD, ADV and NOISY
    :param bins: number of bins of equal width of the largest probability
    :return: expected calibration error on a mixture in which the four are equally frequent;
        attacks of which nothing is simulated are left out, and benign changes may be ID
    """
    kinds = {"id": Verdict.ID, "ood": Verdict.OOD, "adv": Verdict.ADV, "benign": Verdict.NOISY}
    sure, right, weight = [], [], []
    for kind, verdict in kinds.items():
        own = [p for g, p in posteriors.items() if g.split("/")[0] == kind and not unseen(g)]
        values = torch.cat(own)
        best = values.argmax(dim=1)
        hit = best == ORDER.index(verdict)
        hit |= (best == 0) & torch.tensor(verdict == Verdict.NOISY)
        sure.append(values.amax(dim=1))
        right.append(hit.double())
        weight.append(torch.full((len(values),), 1 / len(values), dtype=torch.float64))
    p, hit, w = torch.cat(sure), torch.cat(right), torch.cat(weight) / len(kinds)
    place = (p * bins).long().clamp(max=bins - 1)
    gaps = [((p - hit) * w)[place == b].sum().abs() for b in range(bins)]
    return float(sum(gaps))


def unseen(group: str) -> bool:
    """:return: whether nothing like it is simulated"""
    return group.removeprefix("adv/") in UNSEEN


def shares(verdicts: dict[str, Tensor]) -> Shares:
    """:return: group -> verdict -> share"""
    return {
        group: {v.name: float((found == int(v)).double().mean()) for v in Verdict}
        for group, found in verdicts.items()
    }


def summary(found: Shares) -> Row:
    """
    :param found: shares of one model
    :return: the numbers of the targets
    """

    def mean(kind: str, verdict: str, *groups: str) -> float:
        own = [
            values[verdict]
            for group, values in found.items()
            if group.startswith(kind) and (not groups or group.split("/", 1)[1] in groups)
        ]
        return sum(own) / len(own) if own else float("nan")

    benign = [values for group, values in found.items() if group.startswith("benign")]
    passed = sum(values["ID"] + values["NOISY"] for values in benign) / len(benign)
    bounded = mean("adv", "ADV", "pgd8", "pgd4", "pgd2")
    minimal = mean("adv", "ADV", "deepfool", "cw", "ddn")
    attacks = (bounded + mean("adv", "ADV", "deepfool", "cw") + mean("adv", "ADV", "smooth")) / 3
    id_right, ood = found["id"]["ID"], mean("ood", "OOD")
    return {
        "ID alarms": 1 - id_right,
        "L∞ 8 → ADV": mean("adv", "ADV", "fgsm8", "pgd8"),
        "L∞ 4 → ADV": mean("adv", "ADV", "pgd4"),
        "L∞ 2 → ADV": mean("adv", "ADV", "pgd2"),
        "minimal L2 → ADV": minimal,
        "L2 PGD → ADV": mean("adv", "ADV", "l2pgd"),
        "smooth → ADV": mean("adv", "ADV", "smooth"),
        "unseen → not ID": 1 - mean("adv", "ID", *UNSEEN),
        "OOD → OOD": ood,
        "OOD → ADV": mean("ood", "ADV"),
        "benign → ID, NOISY": passed,
        "benign → ADV": mean("benign", "ADV"),
        "worst benign → ADV": max(values["ADV"] for values in benign),
        "four-way": (id_right + ood + attacks + passed) / 4,
    }


def cascades(name: str, material: Material, cache: Path, with_look: bool) -> dict[str, Shares]:
    """:return: name of the cascade -> its shares, judged by the package of the commit before"""
    given, out = (cache / "verdicts" / f"{name}-{part}.pt" for part in ("material", "cascades"))
    done = next(iter(torch.load(out, weights_only=True).values())) if out.exists() else {}
    # made of other images where these are more or fewer
    if {g: len(x) for g, x in done.items()} != {g: len(x) for g, x in material.groups.items()}:
        given.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vars(material), given)
        here = Path(__file__).resolve().parent
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "before"
            add = ["git", "-C", str(here), "worktree", "add", "-q", "--detach"]
            subprocess.run([*add, str(tree), BEFORE], check=True)
            try:
                subprocess.run(
                    [
                        sys.executable,
                        str(here / "verdict_cascades.py"),
                        str(given.resolve()),
                        str(out.resolve()),
                        "look" if with_look else "plain",
                    ],
                    env=os.environ | {"PYTHONPATH": f"{tree}:{here}"},
                    check=True,
                )
            finally:
                remove = ["git", "-C", str(here), "worktree", "remove", "--force"]
                subprocess.run([*remove, str(tree)], check=True)
        given.unlink()
    return {n: shares(found) for n, found in torch.load(out, weights_only=True).items()}


def rows_of(name: str, data: Path, cache: Path, n: int, rules: list[str]) -> list[Row]:
    """:return: a row for each rule on one model"""
    if name == PRETRAINED:
        material = pretrained_material(data, cache, min(n, 40))
    else:
        material = small_material(name, data, cache, n)
    rows: list[Row] = []
    for rule in rules:
        known = key(__file__, material.model, material.groups, rule)
        path = cache / "verdicts" / name / f"{rule}.pt"
        found, more = stored(path, known, False, lambda r=rule: judged(material, RULES[r]))
        rows.append({"model": name, "rule": rule} | summary(shares(found)) | more)
        print(rows[-1], flush=True)
    for rule, found_shares in cascades(name, material, cache, name != PRETRAINED).items():
        rows.append({"model": name, "rule": rule} | summary(found_shares))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=[*SMALL, PRETRAINED])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--n", type=int, default=100, help="attacked images, default: 100")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.models:
        rows += rows_of(name, options.data, options.cache, options.n, options.rules)
    options.out.mkdir(parents=True, exist_ok=True)
    table = keep(rows, options.out / "verdicts.csv")
    print(report(table, options.out / "verdicts.md", __file__))


if __name__ == "__main__":
    main()
