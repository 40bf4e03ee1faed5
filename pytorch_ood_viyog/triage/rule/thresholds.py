"""
When log-odds mean an alarm, and an alarm an attack: thresholds with bounded false alarms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..populations.verdict import ORDER, Verdict
from .conformal import conformal_p_values, conformal_threshold, smallest_calibration_set

__all__ = ["ALARMS", "Thresholds", "alarm_odds", "fewest_calibration_images"]

#: how much the odds of each verdict count towards an alarm: a benign change is seldom worth one
ALARMS = {Verdict.OOD: 1.0, Verdict.ADV: 1.0, Verdict.NOISY: 0.1}

_PLACE = {verdict: place for place, verdict in enumerate(ORDER)}


def fewest_calibration_images(id_fpr: float, noisy_fpr: float) -> int:
    """
    :param id_fpr: rate of false alarms on ID images
    :param noisy_fpr: share of benign changes that may be called ADV
    :return: number of ID images that both thresholds need
    """
    return max(smallest_calibration_set(id_fpr), smallest_calibration_set(noisy_fpr))


def alarm_odds(z: Tensor) -> Tensor:
    """
    :param z: log-odds of the verdicts, :math:`B \\times 4`
    :return: how much speaks for any verdict but ID, by the weights :math:`w` of :data:`ALARMS`:
        :math:`\\ln \\sum_v w_v e^{z_v} - z_{ID}`, shape :math:`B`
    """
    weights = torch.tensor([*ALARMS.values()], dtype=z.dtype, device=z.device)
    return torch.logsumexp(z[:, 1:] + weights.log(), dim=1) - z[:, 0]


@dataclass(frozen=True)
class Thresholds:
    """
    Of log-odds :math:`z` of the verdicts, set on ID images that nothing was learnt from.

    An alarm is raised where :func:`alarm_odds` are above :math:`t`. It means ADV where
    :math:`z_{ADV} - \\ln(e^{z_{OOD}} + e^{z_{NOISY}})` is above :math:`u`, otherwise the larger
    one of the other two.
    """

    #: :math:`t`, no dimensions
    alarm: Tensor
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
        alarm = conformal_threshold(alarm_odds(clean), id_fpr)
        least = max(conformal_threshold(_against_others(changed), noisy_fpr), 0.0)
        return cls(
            torch.tensor(alarm, dtype=torch.float64),
            torch.tensor(least, dtype=torch.float64),
            torch.stack(_against_id(clean)).sort(dim=1).values,
        )

    def verdicts(self, z: Tensor) -> Tensor:
        """
        :param z: log-odds of the verdicts, :math:`B \\times 4`
        :return: verdicts of shape :math:`B`, int64
        """
        ood, noisy = z[:, _PLACE[Verdict.OOD]], z[:, _PLACE[Verdict.NOISY]]
        other = torch.where(ood >= noisy, int(Verdict.OOD), int(Verdict.NOISY))
        found = torch.where(_against_others(z) > self.least_adv.to(z), int(Verdict.ADV), other)
        return torch.where(alarm_odds(z) > self.alarm.to(z), found, int(Verdict.ID))

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
