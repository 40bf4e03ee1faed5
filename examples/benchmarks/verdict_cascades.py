"""Judges stored images by the two cascades that came before the learnt verdict.

Run by ``verdicts.py`` on a checkout of the commit before, whose package it imports.
"""

import sys
from pathlib import Path

import torch
from pytorch_ood.detector import EnergyBased

from pytorch_ood_viyog import SecondLook, Triage, ViyogResidue

_BATCH = 50


def main(stored: Path, out: Path, with_look: bool) -> None:
    """
    :param stored: file with model, images to fit and calibrate, and groups
    :param out: file for the verdicts
    :param with_look: also the cascade with intent and a second look at every image
    """
    material = torch.load(stored, weights_only=False)
    model = material["model"]

    def batches(x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(part, torch.zeros(len(part))) for part in torch.split(x, _BATCH)]

    cascades = {"cascade": Triage(EnergyBased(None), ViyogResidue(model))}
    if with_look:
        look = SecondLook(model)
        cascades["cascade, intent and look"] = Triage(
            EnergyBased(None),
            ViyogResidue(model),
            intent=True,
            confirm=look,
            confirm_when="always",
        )
    found = {}
    for name, triage in cascades.items():
        triage.fit(batches(material["fit"]), batches(material["calibration"]), progress=False)
        found[name] = {
            group: torch.cat([triage.predict(part) for part in torch.split(x, _BATCH)])
            for group, x in material["groups"].items()
        }
    torch.save(found, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "look")
