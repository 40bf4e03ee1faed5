"""
LayerAdaptive: a one-class SVM a layer, the most alarmed layer decides.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pytorch_ood.api import (
    DetectorInfo,
    ModelNotSetException,
    Paper,
    RequiresFittingException,
    StructuredDetector,
    Task,
)
from torch import Tensor
from torch.nn import Linear, Module
from tqdm import tqdm
from typing_extensions import Self

from ...layer.batches import id_mask, split_batch
from ...layer.checks import check_finite, check_input, check_number
from ...layer.convolution import CONVOLUTIONS
from ...layer.manners import same_random_state, unwrap
from ...layer.outputs import LayerOutputs, evenly_spread
from .one_class import Array, OneClassLayer

__all__ = ["LayerAdaptive"]

_DEFAULT_LAYERS = 8


class LayerAdaptive(StructuredDetector):  # type: ignore[misc]
    """
    Layer-adaptive detection after LA-OOD: low-level anomalies show in early layers, semantic ones
    in late layers, so every chosen layer has a one-class SVM and the most alarmed one decides.

    For each layer :math:`l`, with :math:`f_l(x)` the spatial mean of its output, standardised per
    channel, and :math:`d_l` the decision function of its SVM (Gaussian kernel, :math:`\\nu`):

    .. math::
        s_l(x) = \\frac{-d_l(f_l(x)) - \\mathbb{E}_{ID}[-d_l]}{\\mathrm{std}_{ID}[-d_l]},
        \\qquad s(x) = \\max_l s_l(x)

    The kernel width is chosen without outliers: each candidate is fitted on 70 % of the ID
    samples and has to accept the other 30 % and to reject pseudo-outliers just outside of them
    (:func:`~pytorch_ood_viyog.benchmark.baselines.one_class.pseudo_outliers`); the mean of both
    error rates decides. The mean and the standard deviation that bring the layers to one scale
    come from the same 30 %.

    **Sign.** Larger scores mean more anomalous, be it OOD or ADV.

    **Where it differs from the authors' code.** That compares raw decision values of different
    layers, has fixed candidate widths whatever the number of channels, and refits on all samples
    after the width is chosen, which leaves no unseen samples to set the scale with.

    .. rubric:: Examples

    .. code-block:: python

        detector = LayerAdaptive(model, layers=["layer1", "layer2", "layer3", "layer4"])
        detector.fit(train_loader)
        scores = detector(images)

    :see Implementation: `LA-OOD <https://github.com/haoliangwang86/LA-OOD>`__
    """

    info = DetectorInfo(
        paper=Paper(
            title="Layer Adaptive Deep Neural Networks for Out-of-distribution Detection",
            venue="PAKDD",
            year=2022,
            url="https://arxiv.org/abs/2203.00192",
            code="https://github.com/haoliangwang86/LA-OOD",
        ),
        tasks={Task.CLASSIFICATION},
        ai_coded=True,
    )

    requires_fit = True

    #: Default search space for :class:`pytorch_ood.utils.GridSearch`.
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"nu": [0.001, 0.01, 0.1]}

    def __init__(
        self,
        model: Module | None,
        layers: Sequence[str] | None = None,
        *,
        nu: float = 0.001,
        max_samples: int = 2000,
        seed: int = 0,
    ):
        """
        :param model: model whose layers are read; ``None`` to use features only
        :param layers: dotted names of the layers. Default is up to eight of the convolutions and
            linear layers that run, evenly spread from the first to the last.
        :param nu: upper bound of the share of ID samples that an SVM leaves outside, in (0, 1]
        :param max_samples: ID samples that the SVMs are fitted to, drawn at random where there
            are more; their time grows with the square of it
        :param seed: seed of the draw and of the split
        :raises ValueError: if an argument is out of range or a layer is not part of the model
        """
        self.model = model
        self.layers = None if layers is None else list(layers)
        self.nu = nu
        self.max_samples = int(check_number("max_samples", max_samples, low=10))
        self.seed = seed
        self._outputs: LayerOutputs | None = None
        if model is not None:
            self._outputs = LayerOutputs(model, layers, (*CONVOLUTIONS, Linear))
        self._machines: list[OneClassLayer] | None = None

    @property
    def nu(self) -> float:
        """Upper bound of the share of ID samples that an SVM leaves outside."""
        return self._nu

    @nu.setter
    def nu(self, value: float) -> None:
        self._nu = check_number("nu", value, low=1e-6, high=1)

    def fit(self, data_loader: Iterable[Any], *, progress: bool = True) -> Self:
        """
        Fit one SVM a layer on ID data, read in one pass.

        :param data_loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``; samples with label
            :math:`< 0` are left out
        :param progress: show a progress bar where the pass takes more than a second
        :return: the fitted detector
        :raises ModelNotSetException: if the detector has no model
        :raises ValueError: if there are fewer than ten ID samples, or NaN or inf among them
        """
        self._require_outputs()
        features: list[list[Tensor]] = []
        bar = tqdm(data_loader, desc="fit", leave=False, delay=1, disable=not progress)
        with same_random_state(self.model):  # a loader draws a seed
            for batch in bar:
                x, y = split_batch(batch)
                known = id_mask(y, check_input(x))
                x = x if known is None else x[known]
                if len(x):
                    features.append([layer.cpu() for layer in self._read(x)])
        columns = zip(*features, strict=True)
        return self.fit_structured([torch.cat(column) for column in columns])

    def fit_structured(self, features: Sequence[Tensor], y: Any = None) -> Self:
        """
        Fit on features that were extracted beforehand.

        :param features: one tensor a layer, shape :math:`N \\times D_l`, or
            :math:`N \\times C_l \\times *S`, whose spatial mean is taken
        :param y: labels of shape :math:`N`; samples with label :math:`< 0` are left out
        :return: the fitted detector
        :raises ValueError: if there are fewer than ten ID samples, or NaN or inf among them
        """
        if not features or len(features[0]) == 0:
            raise ValueError("There are no ID samples: the data is empty, or all labels are < 0.")
        known = id_mask(y, features[0])
        columns = [_as_array(layer if known is None else layer[known]) for layer in features]
        if len(columns[0]) < 10:
            raise ValueError(f"LayerAdaptive needs at least 10 ID samples, got {len(columns[0])}.")
        draw = np.random.default_rng(self.seed).permutation(len(columns[0]))[: self.max_samples]
        self._machines = [
            OneClassLayer.fit(column[draw], self.nu, self.seed) for column in columns
        ]
        return self

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs
        :return: outlier scores of shape :math:`B`, float64, larger for anomalies
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        """
        return self.predict_structured(self._read(check_input(x)))

    def predict_structured(self, features: Sequence[Tensor]) -> Tensor:
        """
        :param features: one tensor a layer, as for :meth:`fit_structured`
        :return: outlier scores of shape :math:`B`, float64, larger for anomalies
        :raises RequiresFittingException: if the detector is not fitted
        """
        return self.layer_scores(features).amax(dim=1)

    def layer_scores(self, features: Sequence[Tensor]) -> Tensor:
        """
        :param features: one tensor a layer, as for :meth:`fit_structured`
        :return: scores :math:`s_l` of shape :math:`B \\times L`, which tell the deciding layer
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: if there is another number of layers than the detector was fitted on
        """
        if self._machines is None:
            raise RequiresFittingException
        if len(features) != len(self._machines):
            raise ValueError(
                f"features must be {len(self._machines)} tensors, one a layer, got "
                f"{len(features)}."
            )
        pairs = zip(self._machines, features, strict=True)
        scores = np.stack([machine.score(_as_array(layer)) for machine, layer in pairs], axis=1)
        return torch.from_numpy(scores).to(features[0].device)

    def _require_outputs(self) -> LayerOutputs:
        if self._outputs is None:
            raise ModelNotSetException("LayerAdaptive has no model. Pass one to the constructor.")
        return self._outputs

    def _read(self, x: Tensor) -> list[Tensor]:
        outputs = self._require_outputs()
        x = x if self.device is None else x.to(self.device)
        if self.layers is None:
            self.layers = evenly_spread(outputs.order(x), _DEFAULT_LAYERS)
            outputs.layers = self.layers
        linear = {n for n, m in unwrap(outputs.model).named_modules() if isinstance(m, Linear)}
        means = outputs.run(
            x, lambda name, out: _spatial_mean(out.movedim(-1, 1) if name in linear else out)
        )
        missing = [name for name in self.layers if name not in means]
        if missing:
            raise RuntimeError(f"Layers {missing} did not run or gave no tensor. Leave them out.")
        return [means[name] for name in self.layers]


def _spatial_mean(output: Tensor) -> Tensor:
    return output.flatten(2).mean(dim=2) if output.dim() > 2 else output.clone()


def _as_array(features: Tensor) -> Array:
    check_finite("Features", features)
    array: Array = _spatial_mean(features).double().cpu().numpy()
    return array
