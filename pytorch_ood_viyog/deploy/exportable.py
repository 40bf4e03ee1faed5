"""
Stand-ins for what does not go into a graph as it is.
"""

import torch
from pytorch_ood.detector import KNN
from torch import Tensor

from ..detectors.residue_view import ResidueView
from ..layer.layer_call import LayerCall
from ..triage.rule.evidence import residue_shape

__all__ = ["NearestFeatures", "ShapeReading"]


class ShapeReading(ResidueView):
    """
    All features of the residue and the share of constant windows, :math:`B \\times (F + 1)`, in
    place of a score.
    """

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        shape, flat = residue_shape(self.residue, call, state)
        return torch.cat([shape, flat[:, None]], dim=1)


class NearestFeatures:
    """
    The distance to the :math:`k`-th nearest feature vector of the fit, as :class:`KNN` gives it by
    scikit-learn.
    """

    def __init__(self, detector: KNN):
        """:param detector: fitted detector"""
        self.k, self.normalize = detector.k, detector.normalize
        self.known = torch.from_numpy(detector.knn._fit_X).double()

    def predict_features(self, z: Tensor) -> Tensor:
        """
        :param z: features, :math:`B \\times D`
        :return: scores of shape :math:`B`
        """
        z = z.double()
        if self.normalize:
            z = z / z.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
        known = self.known.to(z.device)
        squares = z.square().sum(dim=1)[:, None] + known.square().sum(dim=1)
        nearest = (squares - 2 * z @ known.T).topk(self.k, dim=1, largest=False).values
        return nearest[:, -1].clamp_min(0).sqrt()
