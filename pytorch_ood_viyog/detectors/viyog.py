"""
Viyog: the infinity norm of the first layer.
"""

import math
from functools import partial
from typing import Any, ClassVar

import torch
from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from torch.nn import Module

from ..fitting.checked import Checked
from ..fitting.fitted import Statistics
from ..images.kind import ImageKind
from ..layer.checks import check_layout, check_number
from ..layer.layer_call import LayerCall
from ..layer.linear.plain_convolution import maps_shape, plain_convolution
from ..layer.precision import accumulator_dtype
from .base import KIND_SHAPES, PAPER, FirstLayerDetector

__all__ = ["Viyog", "bounded_transform", "infinity_norm"]

# maps that are computed at once: more leave a CPU's caches and are new memory each time, which
# costs as much as the convolution
_CACHED_BYTES = 2**23
# fewest parts of a batch, and all on a GPU, where starting many kernels costs more
_PARTS = 2
# smallest temperature: half of the smallest float32
_SMALLEST = 2.0**-150


def infinity_norm(maps: Tensor) -> Tensor:
    """
    :param maps: feature maps :math:`a` of shape :math:`B \\times C \\times *S`
    :return: :math:`n(x) = \\max |a|` of shape :math:`B`, in the accumulator's precision
    """
    # several times faster on a CPU than torch.linalg.vector_norm, and as that without a copy
    axes = tuple(range(1, maps.dim()))
    norms = torch.maximum(maps.amax(dim=axes), -maps.amin(dim=axes))
    return norms.to(accumulator_dtype(maps.device))


def bounded_transform(norms: Tensor, baseline: Tensor, temperature: float) -> Tensor:
    """
    The bounded transform of the centred norm :math:`c = n - b`,

    .. math::
        g(c) = \\frac{\\mathrm{sign}(c)}{1 + \\exp(-\\exp(|c| / T))}

    in float64. It jumps from -0.731 over 0 to 0.731 at :math:`c = 0`. **Ties.** While
    :math:`|c| \\leq 2 T`, norms that differ by :math:`10^{-12} T` or more have different values;
    closer ones may tie. Farther out ever larger differences do, and from :math:`3.7 T` on all
    values are :math:`\\pm 1`.

    :param norms: norms :math:`n`, any shape, float64
    :param baseline: mean ID norm :math:`b`, a scalar
    :param temperature: :math:`T`, in the units of the feature maps
    :return: values in [-1, 1] of the shape of ``norms``, larger for larger norms; infinite where
        the norm is
    """
    centred = norms - baseline
    values = centred.sign() * torch.sigmoid(torch.exp(centred.abs() / temperature))
    return values.masked_fill(norms.isinf(), torch.inf)


def _check_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
    return value


class Viyog(FirstLayerDetector):
    """
    The original Viyog: the infinity norm of the first convolution's raw output :math:`a`, centred
    on in-distribution data.

    .. math::
        n(x) = \\max |a|, \\qquad b = \\mathbb{E}_{ID}[n], \\qquad
        s(x) = -g(n(x) - b), \\qquad
        g(c) = \\frac{\\mathrm{sign}(c)}{1 + \\exp(-\\exp(|c| / T))}

    **Sign.** Larger scores mean smaller norms and speak for ADV; smaller scores mean larger norms
    and speak for OOD.

    **When to use.** It is the cheapest of the statistics and the weakest: on clean natural images
    it separates OOD from ADV little better than chance. Use it to compare with the original
    method; see the README for what was measured.

    The score is float64, as :math:`g` collapses close values in float32 (1,000 norms spread over
    0.01 give 31 distinct scores). See :func:`bounded_transform` for where it saturates;
    ``bounded=False`` never does.

    .. rubric:: Examples

    .. code-block:: python

        detector = Viyog(model)
        detector.fit(train_loader)
        scores = detector(images)

    :see Paper: Singh et al., *Viyog: Separating Adversarial and Out-of-Distribution*,
        CODES+ISSS 2026 / IEEE TCAD
    """

    info = DetectorInfo(paper=PAPER, tasks={Task.CLASSIFICATION}, ai_coded=True)

    #: Default search space for :class:`pytorch_ood.utils.GridSearch`.
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {
        "temperature": [10.0, 100.0, 1000.0],
        "bounded": [True, False],
    }

    #: temperature :math:`T` of the bounded transform
    temperature = Checked(partial(check_number, low=_SMALLEST))
    #: whether the score goes through the bounded transform
    bounded = Checked(_check_flag)

    def __init__(
        self,
        model: Module | None,
        *,
        layer: str | Module | None = None,
        temperature: float = 1000.0,
        bounded: bool = True,
    ):
        """
        :param model: model whose first convolution is read; ``None`` to use feature maps only
        :param layer: layer to read instead, as dotted name or module
        :param temperature: :math:`T > 0` of the bounded transform, in the units of the maps
        :param bounded: if ``False``, the score is :math:`-(n - b)`
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if ``temperature`` is not positive and finite, or ``layer`` not found
        :raises RuntimeError: if the model has no convolution and no layer is named
        """
        super().__init__(model, layer=layer)
        self.temperature = temperature
        self.bounded = bounded

    @property
    def baseline(self) -> float | None:
        """Mean ID norm :math:`b`, in the units of the feature maps; ``None`` before fitting."""
        return float(self._require_state()["baseline"]) if self._is_fitted else None

    _saved_shapes: ClassVar[dict[str, str]] = {"norm_sum": "", "count": "", **KIND_SHAPES}

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        return {"norm_sum": infinity_norm(maps).sum(), **ImageKind.of(inputs).tensors()}

    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        return {"baseline": statistics["norm_sum"] / statistics["count"]}

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        return self._score_norms(infinity_norm(maps), state)

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        conv = plain_convolution(call)
        if call.output is not None or conv is None:
            return super()._score_call(call, state)
        shape = maps_shape(conv, call.input)
        check_layout(shape, self._layout)
        parts = torch.split(call.input, _samples_at_once(shape, call.input))
        norms = torch.cat([infinity_norm(conv.forward(part)) for part in parts])
        return self._score_norms(norms, state)

    def _score_norms(self, norms: Tensor, state: dict[str, Tensor]) -> Tensor:
        baseline = state["baseline"].to(norms.device)
        if not self.bounded:
            return baseline - norms
        return -bounded_transform(norms, baseline, self.temperature)


def _samples_at_once(shape: tuple[int, ...], inputs: Tensor) -> int:
    """So few that the maps of the whole batch are never in memory together."""
    parts = _PARTS
    if inputs.device.type == "cpu":
        parts = max(parts, math.prod(shape) * inputs.element_size() // _CACHED_BYTES)
    return max(1, math.ceil(len(inputs) / parts))
