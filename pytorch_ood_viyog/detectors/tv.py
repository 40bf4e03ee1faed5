"""
ViyogTV: the total variation of the channels that are quiet on in-distribution data.
"""

from functools import partial
from typing import ClassVar

import torch
from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from torch.nn import Module

from ..fitting.checked import Checked
from ..fitting.fitted import Statistics
from ..images.kind import ImageKind
from ..layer.checks import check_layout, check_number
from ..layer.layer_call import LayerCall
from ..layer.linear.plain_convolution import maps_of_channels, maps_shape, plain_convolution
from ..layer.precision import accumulator_dtype, full_precision
from .base import KIND_SHAPES, PAPER, FirstLayerDetector

__all__ = ["ViyogTV", "dormant_band", "mean_magnitude", "total_variation"]

# as in the published package: keeps channels without any activation finite
_EPSILON = 1e-6


def mean_magnitude(maps: Tensor) -> Tensor:
    """
    :param maps: feature maps :math:`a` of shape :math:`B \\times C \\times *S`
    :return: :math:`m = \\mathrm{mean}_S |a|`, shape :math:`B \\times C`
    """
    return full_precision(maps).abs().mean(dim=tuple(range(2, maps.dim())))


def total_variation(maps: Tensor) -> Tensor:
    """
    Roughness per channel, one term per spatial axis:

    .. math::
        tv = \\frac{\\sum_{axes} \\mathrm{mean} |\\Delta_{axis} a|}{\\mathrm{mean} |a| + 10^{-6}}

    Maps with a single position along any axis have no neighbours there; as in the published
    package, their total variation is 0.

    :param maps: feature maps :math:`a` of shape :math:`B \\times C \\times *S`
    :return: total variation of shape :math:`B \\times C`, dimensionless
    """
    maps, axes = full_precision(maps), range(2, maps.dim())
    if min(maps.shape[2:]) == 1:
        return maps.new_zeros(maps.shape[:2])
    steps = torch.stack([maps.diff(dim=axis).abs().mean(dim=tuple(axes)) for axis in axes])
    return steps.sum(dim=0) / (mean_magnitude(maps) + _EPSILON)


def dormant_band(profile: Tensor, band: float, dead_threshold: float) -> Tensor:
    """
    The quietest channels that are not dead. If all are dead, all count as alive.

    :param profile: mean magnitude of each channel on ID data, shape :math:`C`
    :param band: share of the alive channels to take, rounded down, at least one channel
    :param dead_threshold: channels at or below it are dead
    :return: indices of the band's channels, quietest first
    """
    alive = (profile > dead_threshold).nonzero().flatten()
    if alive.numel() == 0:
        alive = torch.arange(profile.numel(), device=profile.device)
    quiet_first = alive[profile[alive].argsort(stable=True)]
    return quiet_first[: max(1, int(alive.numel() * band))]


class ViyogTV(FirstLayerDetector):
    """
    The published Viyog: roughness of the *dormant band*, the channels of the first convolution
    that are quietest on in-distribution data.

    .. math::
        m_c = \\mathbb{E}_{ID}\\, \\mathrm{mean} |a_c|, \\qquad
        s(x) = \\frac{1}{|D|} \\sum_{c \\in D}
        \\frac{\\sum_{axes} \\mathrm{mean} |\\Delta_{axis} a_c|}{\\mathrm{mean} |a_c| + 10^{-6}}

    with :math:`D` the :math:`\\max(1, \\lfloor band \\cdot alive \\rfloor)` quietest channels of
    the alive ones, those with :math:`m_c` above ``dead_threshold``. With fewer than ten alive
    channels (and the default ``band``) the band is one channel; if all are dead, all count as
    alive. One term per spatial axis, no factor 1/2 (the paper's Eq. 1 has one; ranks do not
    change). Maps with a single position along any axis score 0.

    **Sign.** Larger scores are rougher and speak for ADV; smaller scores are smoother and speak
    for OOD. Dimensionless, not negative.

    **When to use.** To compare with the published method. It says "rough", and texture is rough:
    on textured OOD data the ranks are inverted. :class:`ViyogResidue` does not have this fault.

    The scores equal those of ``viyog`` 0.1.3 on Conv1d and Conv2d models, but for one case: that
    package keeps a view of the layer's output, which an in-place activation right after the
    convolution overwrites; here the raw output counts.

    .. rubric:: Examples

    .. code-block:: python

        detector = ViyogTV(model)
        detector.fit(train_loader)
        scores = detector(images)

    :see Paper: Singh et al., *Viyog: Separating Adversarial and Out-of-Distribution*,
        CODES+ISSS 2026 / IEEE TCAD
    """

    info = DetectorInfo(paper=PAPER, tasks={Task.CLASSIFICATION}, ai_coded=True)

    #: Default search space for :class:`pytorch_ood.utils.GridSearch`.
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {
        "band": [0.05, 0.10, 0.20, 0.50],
        "dead_threshold": [1e-4],
    }

    #: share of the alive channels that form the dormant band
    band = Checked(partial(check_number, low=1e-9, high=1), concludes=True)
    #: mean ID magnitude at or below which a channel is dead
    dead_threshold = Checked(partial(check_number, low=0), concludes=True)

    def __init__(
        self,
        model: Module | None,
        *,
        layer: str | Module | None = None,
        band: float = 0.10,
        dead_threshold: float = 1e-4,
    ):
        """
        :param model: model whose first convolution is read; ``None`` to use feature maps only
        :param layer: layer to read instead, as dotted name or module
        :param band: share of the alive channels that form the dormant band, in (0, 1]
        :param dead_threshold: channels with a mean ID magnitude at or below it are dead
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if ``band`` or ``dead_threshold`` is out of range, or ``layer`` not
            found
        :raises RuntimeError: if the model has no convolution and no layer is named
        """
        super().__init__(model, layer=layer)
        self.band = band
        self.dead_threshold = dead_threshold

    @property
    def channel_profile(self) -> Tensor | None:
        """Mean ID magnitude per channel, shape :math:`C`, float64; ``None`` before fitting."""
        return self._require_state()["profile"] if self._is_fitted else None

    @property
    def dormant_channels(self) -> Tensor | None:
        """Indices of the dormant band, quietest first; ``None`` before fitting."""
        return self._require_state()["dormant"] if self._is_fitted else None

    _saved_shapes: ClassVar[dict[str, str]] = {"magnitude_sum": "C", "count": "", **KIND_SHAPES}

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        magnitude = mean_magnitude(maps).to(accumulator_dtype(maps.device))
        return {"magnitude_sum": magnitude.sum(dim=0), **ImageKind.of(inputs).tensors()}

    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        profile = statistics["magnitude_sum"] / statistics["count"]
        return {
            "profile": profile,
            "dormant": dormant_band(profile, self.band, self.dead_threshold),
        }

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        return self._roughness(maps.index_select(1, state["dormant"].to(maps.device)))

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        conv = plain_convolution(call)
        if call.output is not None or conv is None or conv.groups > 1:
            return super()._score_call(call, state)
        check_layout(maps_shape(conv, call.input), self._layout)
        channels = state["dormant"].to(call.input.device)
        return self._roughness(maps_of_channels(conv, call.input, channels))

    def _roughness(self, band: Tensor) -> Tensor:
        return total_variation(band).mean(dim=1)
