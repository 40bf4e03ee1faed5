"""The head is the layer whose output becomes the logits."""

import pytest
import torch
from inside import Small
from pytorch_ood.detector import KNN
from torch import nn

from pytorch_ood_viyog import SharedForward


class Two(Small):
    """A head, and others that run after it."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.projection, self.second = nn.Linear(16, 5), nn.Linear(16, 5)

    def forward(self, x):
        features = self.head[:3](self.stem(x))
        logits, extra = self.head[3](features), self.projection(2 * features)
        return {
            "auxiliary": lambda: logits,
            "scaled": lambda: 3 * logits,
            "log softmax": lambda: logits.log_softmax(dim=1),
            "tuple": lambda: {"logits": logits, "extra": extra},
            "mean": lambda: (logits + self.second(features)) / 2,
        }[self.kind]()


def knn(kind, **how):
    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pipeline = SharedForward(Two(kind), {"knn": KNN(None, k=3)}, **how)
    pipeline.fit([(x, torch.arange(40) % 5)], progress=False)
    return pipeline, pipeline.predict(x[:8] + 0.1)["knn"]


@pytest.mark.parametrize("kind", ["auxiliary", "scaled", "log softmax", "tuple"])
def test_another_layer_that_runs_later_is_no_head(kind):
    pipeline, scores = knn(kind)
    assert pipeline._pass.head_name == "head.3"
    _, named = knn(kind, head="head.3")
    assert torch.equal(scores, named)


def test_heads_that_are_not_clear_are_listed():
    with pytest.raises(ValueError, match=r"none does.*head.3.*projection.*second.*head='...'"):
        knn("mean")
    knn("mean", head="second")


def test_heads_of_micro_batches():
    class Parts(Small):
        def forward(self, x):
            return torch.cat([super(Parts, self).forward(part) for part in x.split(8)])

    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = []
    for make in (Parts, Small):
        pipeline = SharedForward(make(), {"knn": KNN(None, k=3)})
        pipeline.fit([(x, torch.arange(40) % 5)], progress=False)
        scores.append(pipeline.predict(x[:20] + 0.1)["knn"])
    torch.testing.assert_close(*scores)
