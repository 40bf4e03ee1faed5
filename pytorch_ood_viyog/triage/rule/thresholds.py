"""
When log-odds mean an alarm, and an alarm an attack: thresholds with bounded false alarms.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..populations.verdict import ORDER, Verdict
from .conformal import alarm_thresholds, conformal_p_values, smallest_calibration_set

__all__ = ["ALARMS", "Thresholds", "fewest_calibration_images"]

#: share of the false alarms that each verdict may raise
ALARMS = {Verdict.OOD: 0.6, Verdict.ADV: 0.35, Verdict.NOISY: 0.05}

_PLACE = {verdict: place for place, verdict in enumerate(ORDER)}


def fewest_calibration_images(id_fpr: float, noisy_fpr: float) -> int:
    """
    :param id_fpr: rate of false alarms on ID images
    :param noisy_fpr: share of benign changes that may be called ADV
    :return: number of ID images that both thresholds need
    """
    return max(
        smallest_calibration_set(id_fpr, len(ALARMS)), smallest_calibration_set(noisy_fpr, 1)
    )


@dataclass(frozen=True)
class Thresholds:
    """
    Of log-odds :math:`z` of the verdicts, set on ID images that nothing was learnt from.

    An alarm is raised where :math:`z_v - z_{ID}` is above :math:`t_v` for any :math:`v` of OOD,
    ADV and NOISY. It means ADV where :math:`z_{ADV} - \\ln(e^{z_{OOD}} + e^{z_{NOISY}})` is above
    :math:`u`, otherwise the larger one of the other two.
    """

    #: :math:`t` for OOD, ADV and NOISY, shape 3
    alarms: Tensor
    #: :math:`u`, no dimensions
    least_adv: Tensor
    #: :math:`z_v - z_{ID}` of the ID images, each row in ascending order, :math:`3 \\times n`
    known: Tensor

    @classmethod
    def of(cls, clean: Tensor, changed: Tensor, id_fpr: float, noisy_fpr: float) -> "Thresholds":
        """
        :param clean: :math:`z` of :math:`n` ID images, :math:`n \\times 4`
        :param changed: those of the same after benign changes
        :param id_fpr: rate of false alarms on ID images
        :param noisy_fpr: share of benign changes that may be called ADV
        :return: the thresholds
        :raises ValueError: if there are too few images
        """
        scores = {v.name: s for v, s in zip(ALARMS, _against_id(clean), strict=True)}
        shares = {verdict.name: share for verdict, share in ALARMS.items()}
        limits = alarm_thresholds(scores, id_fpr, shares)
        # the m-th largest of n: exceeded with probability m / (n + 1) at most
        m = math.floor(noisy_fpr * (len(changed) + 1) + 1e-9)
        least = _against_others(changed).sort(descending=True).values[m - 1].clamp_min(0)
        alarms = torch.tensor([limits[v.name] for v in ALARMS], dtype=torch.float64)
        return cls(alarms, least, torch.stack([*scores.values()]).sort(dim=1).values)

    def verdicts(self, z: Tensor) -> Tensor:
        """
        :param z: log-odds of the verdicts, :math:`B \\times 4`
        :return: verdicts of shape :math:`B`, int64
        """
        alarm = (torch.stack(_against_id(z), dim=1) > self.alarms.to(z)).any(dim=1)
        ood, noisy = z[:, _PLACE[Verdict.OOD]], z[:, _PLACE[Verdict.NOISY]]
        other = torch.where(ood >= noisy, int(Verdict.OOD), int(Verdict.NOISY))
        found = torch.where(_against_others(z) > self.least_adv.to(z), int(Verdict.ADV), other)
        return torch.where(alarm, found, int(Verdict.ID))

    def p_values(self, z: Tensor) -> dict[str, Tensor]:
        """
        :param z: log-odds of the verdicts, :math:`B \\times 4`
        :return: verdict -> share of ID images for which as much speaks for it, shape :math:`B`
        """
        found = zip(ALARMS, self.known, _against_id(z), strict=True)
        return {v.name: conformal_p_values(known.to(z), odds) for v, known, odds in found}


def _against_id(z: Tensor) -> list[Tensor]:
    return [z[:, _PLACE[verdict]] - z[:, _PLACE[Verdict.ID]] for verdict in ALARMS]


def _against_others(z: Tensor) -> Tensor:
    others = z[:, [_PLACE[Verdict.OOD], _PLACE[Verdict.NOISY]]].logsumexp(dim=1)
    return z[:, _PLACE[Verdict.ADV]] - others
