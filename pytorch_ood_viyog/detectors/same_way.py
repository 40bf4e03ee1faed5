"""
SameWay: do the images that a detector gets come the way of those that it was calibrated on?
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import Self

from ..layer.batches import batches, id_mask, in_batches
from ..layer.checks import check_count, check_number
from ..layer.manners import same_random_state
from .residue import ViyogResidue
from .way_check import FEWEST, Rows, WayCheck, compared
from .way_stream import WayStream

__all__ = ["SameWay"]

# fewest images of a calibration
_FEWEST_KNOWN = 30
# more images tell nothing more of what is usual
_MOST_KNOWN = 2048
# images of a stream that an alarm describes
_RECENT = 50


class SameWay:
    """
    Compares the features of :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue` of a set
    of images with those of calibration images. Another resize filter, codec or rounding moves
    their means, long before single images look unusual.

    Of :math:`n` images and :math:`N` calibration images with the mean features :math:`\\bar f` and
    :math:`\\bar f_0`, two statistics of the difference :math:`d = \\bar f - \\bar f_0`, with the
    variances :math:`S` of both sets together:

    .. math::
        t = \\max_j |d_j| / \\sqrt{S_{jj} (1/n + 1/N)}, \\qquad
        h = d^\\top S_{20}^{-1} d \\ \\text{(Hotelling, on the 20 leading components)}

    Their p-values are those of a permutation test, exact for any features; the smaller of both
    counts, again as a rank among permutations.

    **Streams.** :meth:`update` takes batches as they come, and gathers evidence image by image,
    see :class:`~pytorch_ood_viyog.detectors.way_stream.WayStream`. Whatever the features
    are, with probability 95 % over the choice of the calibration images it takes
    ``false_alarm_every`` images of the same way or more, on average, to raise a false alarm, if
    images are independent. More calibration images find another way sooner. What it holds, a few
    hundred numbers and the last 50 images' features, merges by :meth:`merge`.

    OOD images and attacks move the features as well: an alarm says that thresholds may not hold,
    not why.

    .. rubric:: Examples

    .. code-block:: python

        same = SameWay(residue).fit(calibration_loader)
        print(same.check(images))            # p = 0.001 ... finer than the calibration images
        for x in stream:
            for alarm in same.update(x):
                print(alarm)

    :see: new in this package
    """

    def __init__(
        self,
        residue: ViyogResidue,
        *,
        false_alarm_every: float = 10_000,
        permutations: int = 1999,
        seed: int = 0,
    ):
        """
        :param residue: fitted detector whose features are read
        :param false_alarm_every: number of images of a stream in which one false alarm is
            acceptable
        :param permutations: number of them, which bounds the p-values from below
        :param seed: seed of the permutations
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if a number is out of range
        """
        if not isinstance(residue, ViyogResidue):
            raise TypeError(f"residue must be a ViyogResidue, got {type(residue).__name__}.")
        self.residue = residue
        self.false_alarm_every = check_number("false_alarm_every", false_alarm_every, low=100)
        self.permutations = check_count("permutations", permutations, low=99)
        self.seed = check_count("seed", seed, low=0)
        self._known: Rows | None = None
        self._stream: WayStream | None = None
        self._recent: Rows | None = None
        #: number of images that :meth:`update` has seen
        self.seen = 0

    def fit(self, data: Tensor | Iterable[Any], *, progress: bool = True) -> Self:
        """
        :param data: calibration images that the detector was not fitted to, as a tensor or a
            loader; samples with label :math:`< 0` are left out
        :param progress: show a progress bar where the pass takes more than a second
        :return: this
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: if there are fewer than 30 images
        """
        rows: list[Rows] = []
        with same_random_state(self.residue.model):
            for x, y in batches(in_batches(data), "fit", progress):
                mask = id_mask(y, x)
                rows.append(self.read(x if mask is None else x[mask]))
        return self.fit_readings(np.concatenate(rows) if rows else np.empty((0, 0)))

    def fit_readings(self, readings: Rows) -> Self:
        """
        :param readings: what :meth:`read` gave for calibration images
        :return: this
        :raises ValueError: as :meth:`fit`
        """
        if len(readings) < _FEWEST_KNOWN:
            raise ValueError(
                f"SameWay needs {_FEWEST_KNOWN} calibration images or more, got {len(readings)}."
            )
        apart = -(-len(readings) // _MOST_KNOWN)
        known = readings[::apart].copy()
        self._known, self._stream = known, WayStream.of(known, self.seed)
        self._recent, self.seen = known[:0], 0
        return self

    def read(self, x: Tensor) -> Rows:
        """
        :param x: batch of model inputs
        :return: what is compared: features, one image a row
        :raises RequiresFittingException: if the detector is not fitted
        """
        found: Rows = self.residue.readings(x).double().cpu().numpy()
        return found

    def check(self, x: Tensor) -> WayCheck:
        """
        :param x: ten images or more, as the model gets them
        :return: what differs from the calibration images, and how surely
        :raises RuntimeError: if this is not fitted
        :raises ValueError: if there are fewer than ten images
        """
        return self.check_readings(self.read(x))

    def check_readings(self, readings: Rows) -> WayCheck:
        """
        :param readings: what :meth:`read` gave for the images
        :return: as :meth:`check`
        :raises RuntimeError: as :meth:`check`
        :raises ValueError: as :meth:`check`
        """
        self._require_known()
        if len(readings) < FEWEST:
            raise ValueError(f"A check needs {FEWEST} images or more, got {len(readings)}.")
        return self._compared(readings)

    def update(self, x: Tensor) -> list[WayCheck]:
        """
        :param x: the next batch of a stream, as the model gets it; of any size
        :return: the alarms that it raises, mostly none: what the last images, 50 at most, differ
            in; gathering starts anew after each
        :raises RuntimeError: if this is not fitted
        """
        self._require_known()
        return self.update_readings(self.read(x)) if len(x) else []

    def update_readings(self, readings: Rows) -> list[WayCheck]:
        """
        :param readings: what :meth:`read` gave for the next batch, for example in a pass that
            scores
        :return: as :meth:`update`
        :raises RuntimeError: as :meth:`update`
        """
        stream, recent = self._require_stream()
        self.seen += len(readings)
        alarms = []
        while len(readings):
            stream, count = stream.seen(readings, self.false_alarm_every)
            recent = np.concatenate([recent, readings[:count]])[-_RECENT:]
            readings = readings[count:]
            if stream.reached(self.false_alarm_every):
                alarms.append(self._compared(recent))
                stream, recent = stream.emptied(), recent[:0]
        self._stream, self._recent = stream, recent
        return alarms

    def merge(self, other: "SameWay") -> list[WayCheck]:
        """
        Take over what another one of the same calibration has seen of its part of a stream.

        :param other: it is then empty
        :return: as :meth:`update`
        :raises ValueError: if its calibration images were others
        """
        if not np.array_equal(self._require_known(), other._require_known()):
            raise ValueError("Both must be fitted to the same calibration images.")
        stream, recent = self._require_stream()
        theirs, latest = other._require_stream()
        stream, recent = stream.joined(theirs), np.concatenate([recent, latest])[-_RECENT:]
        self.seen, other.seen = self.seen + other.seen, 0
        other._stream, other._recent = theirs.emptied(), latest[:0]
        alarms = [self._compared(recent)] if stream.reached(self.false_alarm_every) else []
        self._stream = stream.emptied() if alarms else stream
        self._recent = recent[:0] if alarms else recent
        return alarms

    @property
    def known(self) -> Rows:
        """Features of the calibration images, one image a row."""
        return self._require_known()

    def _require_known(self) -> Rows:
        if self._known is None:
            raise RuntimeError("SameWay is not fitted. Call fit() with calibration images first.")
        return self._known

    def _require_stream(self) -> tuple[WayStream, Rows]:
        self._require_known()
        assert self._stream is not None
        assert self._recent is not None
        return self._stream, self._recent

    def _compared(self, readings: Rows) -> WayCheck:
        names = self.residue.reading_names
        return compared(self._require_known(), readings, names, self.permutations, self.seed)
