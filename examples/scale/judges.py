"""
What judges the images: a detector or a Triage on a model. Put your own model here.
"""

from pathlib import Path

import torch
import torchvision

from pytorch_ood_viyog import Triage, Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.detectors.base import FirstLayerDetector

JUDGES = {
    "Viyog": Viyog,
    "ViyogTV": ViyogTV,
    "ViyogResidue": ViyogResidue,
    "Triage": Triage,
}


def build_model(name: str) -> torch.nn.Module:
    """Random weights must be the same in all processes."""
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval()


def load_judge(state: Path, model: str) -> FirstLayerDetector | Triage:
    """
    :param state: what ``torch.save(judge.state_dict(), state)`` wrote
    :param model: name of the model of the fit
    :return: the fitted detector or triage
    """
    content = torch.load(state, weights_only=True)
    return JUDGES[content["class"]](build_model(model)).load_state_dict(content)
