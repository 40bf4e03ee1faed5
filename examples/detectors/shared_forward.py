"""
Six detectors, one forward pass: what SharedForward saves.

Four detectors of pytorch-ood and two that read the first convolution judge handwritten digits on
photographs, once each by itself and once from a shared pass. Needs no download:

    python examples/detectors/shared_forward.py
"""

# %%
import argparse
import time
from collections.abc import Callable

import torch
from digits_on_photos import Net, make_images, train
from pytorch_ood.detector import KNN, EnergyBased, Mahalanobis, MaxSoftmax
from torch import Tensor
from torch.utils.data import DataLoader

from pytorch_ood_viyog import ViyogResidue, ViyogTV
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward

parser = argparse.ArgumentParser(description="Six detectors, one forward pass.")
parser.add_argument("--quick", action="store_true", help="smaller model, for CI")
options = parser.parse_args()
torch.manual_seed(0)

# %%
# A classifier of digits; how well it does is of no matter here.
data = make_images(repeats=1)
model = train(Net(width=8 if options.quick else 64), data.train, epochs=1)
train_loader = DataLoader(data.train, batch_size=100)

# %%
# Each by itself: every detector is given the model or an encoder, and passes the data through it.
alone = {
    "msp": MaxSoftmax(model),
    "energy": EnergyBased(model),
    "mahalanobis": Mahalanobis(model.features),
    "knn": KNN(model.features, k=10),
    "residue": ViyogResidue(model),
    "tv": ViyogTV(model),
}
# %%
# Shared: built with None, they are fed from one pass. Logits detectors get the model's output,
# feature detectors the input of the last linear layer, the others the first convolution's output.
pipeline = SharedForward(
    model,
    {
        "msp": MaxSoftmax(None),
        "energy": EnergyBased(None),
        "mahalanobis": Mahalanobis(None),
        "knn": KNN(None, k=10),
        "residue": ViyogResidue(None),
        "tv": ViyogTV(None),
    },
)


def seconds(work: Callable[[], object]) -> float:
    """:return: time that ``work`` takes"""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


fit_alone = seconds(lambda: [detector.fit(train_loader) for detector in alone.values()])
fit_shared = seconds(lambda: pipeline.fit(train_loader))

# %%
# The scores are the same.
x = torch.cat([data.test.tensors[0], data.ood])


def predict_alone(batch: Tensor) -> dict[str, Tensor]:
    """:return: scores, one forward pass a detector"""
    with torch.no_grad():
        return {name: detector(batch) for name, detector in alone.items()}


for name, scores in predict_alone(x[:200]).items():
    torch.testing.assert_close(pipeline.predict(x[:200])[name], scores, rtol=1e-6, atol=0)
print(f"the same scores of {', '.join(pipeline.detectors)}")

# %%
# The time is not.
repeats = 1 if options.quick else 5
batches = torch.split(x, 100)
predict_time = min(seconds(lambda: [predict_alone(b) for b in batches]) for _ in range(repeats))
shared_time = min(seconds(lambda: [pipeline.predict(b) for b in batches]) for _ in range(repeats))
with torch.no_grad():
    plain = min(seconds(lambda: [model(b) for b in batches]) for _ in range(repeats))
print(f"fit on {len(data.train)} digits: each alone {fit_alone:.2f} s, shared {fit_shared:.2f} s")
print(
    f"score {len(x)} images: each alone {predict_time:.2f} s, shared {shared_time:.2f} s, "
    f"{1 - shared_time / predict_time:.0%} saved; the model itself {plain:.2f} s"
)

# %%
# A whole loader at once: a table with labels and logits.
table = pipeline.score(DataLoader(data.test, batch_size=100))
print({name: tuple(values.shape) for name, values in table.items()})
