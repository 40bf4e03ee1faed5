"""
What an input is taken for.
"""

from enum import IntEnum

__all__ = ["ORDER", "Verdict"]


class Verdict(IntEnum):
    """What an input is taken for, and with it what to do."""

    #: in-distribution: answer
    ID = 0
    #: out-of-distribution: abstain or collect
    OOD = 1
    #: adversarial: reject and raise an alert
    ADV = -1
    #: a residue that is not shaped as an attack's: answer with care, mend the camera
    NOISY = 2


#: order of the verdicts in log-odds
ORDER = (Verdict.ID, Verdict.OOD, Verdict.ADV, Verdict.NOISY)
