"""Attacks that go through a codec before the model sees them: verdicts and scores."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pytorch_ood_viyog import Triage, ViyogResidue
from pytorch_ood_viyog.detectors import ResidueView
from pytorch_ood_viyog.images import apply_ways
from pytorch_ood_viyog.residue.evidence import score
from pytorch_ood_viyog.triage import Verdict

BATCH = 4
FIVE = ("rounding", "JPEG 95 4:2:0", "JPEG 75", "WebP 80", "resize 0.5 lanczos")
#: name of what lies between attacker and model -> ``through=``
CODECS = {
    "none": None,
    "JPEG 95 4:2:0": "JPEG 95 4:2:0",
    "WebP 80": "WebP 80",
    "JPEG 75": "JPEG 75",
    "one of five": FIVE,
    "JPEG 95 4:4:4": "JPEG 95 4:4:4",
}
#: codecs behind which a detector without ``through=`` is fitted as well
FITTED_BEHIND = ("none", "JPEG 95 4:2:0", "JPEG 95 4:4:4")
#: calibration images that rules of triage are learnt from
LEARNT = 100
# share of the photographs at 224 pixels that a triage's detectors are fitted on
_TRAINED = 0.8

Rows = list[dict[str, str | float]]


#: gives what is stored under a name, or is made now
Cache = Callable[[str, Callable[[], Tensor]], Tensor]


@torch.no_grad()
def answers(model: nn.Module, x: Tensor) -> Tensor:
    """:return: classes of the model's answers"""
    return torch.cat([model(part).argmax(dim=1) for part in x.split(BATCH)])


def read(detector: ViyogResidue, x: Tensor) -> Tensor:
    """
    :return: features, how far the score is above ``least_adv``, the score of ViyogResidue and that
        of the alarm, one image a row
    """
    alarm, state = ResidueView(detector), detector._require_state()
    rows = []
    for part in x.split(BATCH):  # one pass gives all of it
        features = detector.readings(part)
        said = score(features, state, detector._settings)
        columns = [said - detector.least_adv, said, alarm._view(features, state)]
        rows.append(torch.cat([features, torch.stack(columns, dim=1)], dim=1))
    return torch.cat(rows)


def share(raised: Tensor) -> float:
    """:return: share of what is true"""
    return float(raised.double().mean())


def sent(name: str, x: Tensor) -> Tensor:
    """:return: images behind a codec"""
    through = CODECS[name]
    return x if through is None else apply_ways(through, x, seed=5)


def triage_rows(
    cache: Cache, model: nn.Module, fit: Tensor, clean: Tensor, adv: dict[int, Tensor]
) -> Iterator[Rows]:
    """:return: what verdicts are worth behind codecs, with and without ``through=``: all rows so
    far, after each fit"""
    trained, half = int(_TRAINED * len(fit)), len(clean) // 2
    train, known = fit[:trained], torch.cat([fit[trained:], clean[:half]])
    arriving = {0: clean[half:], **adv}

    def verdicts(through: str, names: list[str]) -> dict[str, Tensor]:
        """Of images behind these codecs, by codec."""

        def made() -> Tensor:
            triage = Triage(model, through=CODECS[through], simulate_on=LEARNT)
            triage.fit(train.split(BATCH), known.split(BATCH))
            every = torch.cat([sent(name, x) for name in names for x in arriving.values()])
            return torch.cat([triage.predict(part) for part in every.split(BATCH)])

        found = cache(f"verdicts {through}", made)
        return dict(zip(names, found.chunk(len(names)), strict=True))

    plain = verdicts("none", [*CODECS])
    rows: Rows = [_verdict_row(model, name, "none", plain[name], arriving) for name in CODECS]
    yield rows
    for name in tqdm([*CODECS][1:], desc="verdicts"):
        found = verdicts(name, [name, "none"])
        rows += [_verdict_row(model, met, name, found[met], arriving) for met in found]
        yield rows


def _verdict_row(
    model: nn.Module, met: str, through: str, verdicts: Tensor, arriving: dict[int, Tensor]
) -> dict[str, str | float]:
    clean, *attacks = verdicts.split([len(x) for x in arriving.values()])
    row: dict[str, str | float] = {"behind": met, "through": through}
    row["false alarms"] = share(clean != Verdict.ID)
    truth = answers(model, arriving[0][: len(attacks[0])])
    for (level, x), found in zip([*arriving.items()][1:], attacks, strict=True):
        fools = answers(model, sent(met, x)) != truth
        row |= {f"fool {level}": share(fools), f"ADV {level}": share(found[fools] == Verdict.ADV)}
        row[f"alarm {level}"] = share(found[fools] != Verdict.ID)
    return row


def codec_rows(
    cache: Cache, model: nn.Module, fit: Tensor, clean: Tensor, adv: dict[int, Tensor]
) -> Iterator[Rows]:
    """:return: attacks that went through a codec before the model saw them, by detectors: all rows
    so far, after each fit"""
    rows: Rows = []
    split = len(clean) // 2
    truth = answers(model, clean[split:][: len(adv[8])])
    for name, way in tqdm(CODECS.items(), desc="codecs"):
        behind = {level: sent(name, x) for level, x in {0: clean, **adv}.items()}
        for residues in ("behind", "through") if name in FITTED_BEHIND else ("through",):
            if residues == "through" and way is None:
                continue

            def readings(residues: str = residues, way=way, name=name, behind=behind) -> Tensor:
                if residues == "through":
                    detector = ViyogResidue(model, through=way).fit(fit.split(BATCH))
                else:
                    detector = ViyogResidue(model).fit(sent(name, fit).split(BATCH))
                return read(detector, torch.cat([*behind.values()]))

            scores = cache(f"codec {name} {residues}", readings)[:, -3:]
            known, *attacks = scores.split([len(x) for x in behind.values()])
            limit = known[:split].quantile(0.95, dim=0)
            row: dict[str, str | float] = {"behind": name, "residues": residues}
            row |= shares("FP", known[split:], limit)
            for level, found in zip(adv, attacks, strict=True):
                fools = answers(model, behind[level]) != truth
                row |= {f"fool {level}": share(fools)} | shares(level, found[fools], limit)
            rows.append(row)
            yield rows


def shares(what: str | int, found: Tensor, limit: Tensor) -> dict[str, float]:
    """
    :param what: what the rows are of
    :param found: last columns of :func:`read`
    :param limit: thresholds of these
    :return: shares above ``least_adv``, and above the thresholds of both detectors
    """
    return {
        f"{what}: ADV": share(found[:, 0] > 0),
        f"{what}: residue": share(found[:, 1] > limit[1]),
        f"{what}: alarm": share(found[:, 2] > limit[2]),
    }
