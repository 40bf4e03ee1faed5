"""
The second look of a triage: samples that raised an alarm are asked about again.

Two pieces of evidence for an attack are independent on ID data: the residue that the router sees,
and the log-odds that the first answer loses with the residue. What was taken for OOD is ADV where
Fisher's sum of both is above its 95 % quantile, and the answer has lost as much as at most 10 % of
ID samples lose,

.. math::
    -\\ln p_{router} - \\ln p_e > \\tfrac{1}{2} \\chi^2_{4,\\, 0.95} = 4.74,
    \\qquad p_e \\leq 0.1,

with the p-values among ID samples of :func:`~pytorch_ood_viyog.looks.surprise.surprise`. A residue
alone would make an attack of texture that is new to the model. NOISY stays NOISY: its residue
alone would make up most of the sum. A verdict ADV is *confirmed* where the second look alone is as
unusual as at most 5 % of ID samples are: the answer hangs on the residue. Unconfirmed, there is a
residue, but it made no difference, as that of noise does not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..looks.second_look import SecondLook
from ..looks.surprise import surprise
from .verdict import Verdict

__all__ = ["CONFIRM", "SecondAnswers", "asked_again"]

#: name of the second look where it is a gate
CONFIRM = "second look"

# half of the 95 % quantile of chi-squared with four degrees of freedom: Fisher's of two p-values
_LIMIT = 4.744
# p-value of the lost log-odds without which a residue is none of an attack
_LOST = 0.1
# p-value of the second look that confirms
_CONFIRMS = 0.05


@dataclass(frozen=True)
class SecondAnswers:
    """What a second look made of verdicts, for a batch of :math:`B` samples."""

    #: values of :class:`Verdict`, shape :math:`B`
    verdicts: Tensor
    #: whether the verdict is ADV and the second look confirms it, shape :math:`B`
    confirmed: Tensor
    #: class of the second answer, -1 where it was not asked for, shape :math:`B`
    second: Tensor


def asked_again(
    look: SecondLook,
    x: Tensor,
    logits: Tensor,
    verdicts: Tensor,
    reference: Tensor,
    router: Tensor,
) -> SecondAnswers:
    """
    :param look: fitted detector
    :param x: batch of model inputs
    :param logits: the first answers, :math:`B \\times C`
    :param verdicts: verdicts without a second look
    :param reference: the router's scores of ID samples, in ascending order
    :param router: the router's scores of the batch
    :return: verdicts with a second look, which only samples with an alarm pay for
    """
    asked = (verdicts != int(Verdict.ID)).nonzero().flatten()
    verdicts, second = verdicts.clone(), torch.full_like(verdicts, -1)
    confirmed = torch.zeros_like(verdicts, dtype=torch.bool)
    if len(asked) == 0:
        return SecondAnswers(verdicts, confirmed, second)
    compared = look.compare(x[asked.to(x.device)], logits[asked.to(logits.device)])
    p_values = {name: p.to(verdicts.device) for name, p in compared.p_values.items()}
    evidence = surprise(reference, router[asked]) - p_values["lost_odds"].log()
    attacked = (evidence > _LIMIT) & (p_values["lost_odds"] <= _LOST)
    attacked &= verdicts[asked] != int(Verdict.NOISY)
    verdicts[asked[attacked]] = int(Verdict.ADV)
    second[asked] = compared.second.argmax(dim=1).to(second)
    confirmed[asked] = p_values["score"] <= _CONFIRMS
    return SecondAnswers(verdicts, confirmed & (verdicts == int(Verdict.ADV)), second)
