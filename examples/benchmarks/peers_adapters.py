"""Detectors of other libraries, run in an environment of their own.

``peers.py`` runs this file with the Python that has the library; it needs torch, NumPy and that
library, and nothing of ours. The folder holds ``model.pt``, a traced classifier of images in
[0, 1], and ``images.npz``: uint8 images ``fit`` with ``labels``, and groups to score. Each
detector gets a file as soon as it is done: ``NAME.npz`` with scores by group, or ``NAME.txt``
with what it raised. All scores are larger for what is less like the images of the fit.
"""

import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Score = Callable[[Tensor], Tensor]
# given classifier, images to fit on and their labels
Fit = Callable[[nn.Module, Tensor, Tensor], Score]

_BATCH = 25  # Odds answers many images for each at once
# neighbours: papers take 50 and 75 of 50,000 images, more than a class has in small sets like ours
_NEAREST = 10
_ESTIMATORS = 16  # of torch-uncertainty's examples


def layers(model: nn.Module) -> list[str]:
    """:return: names of what is pooled, from the first to the penultimate features"""
    pools = (nn.MaxPool2d, nn.AdaptiveAvgPool2d)
    return [name for name, module in model.named_modules() if isinstance(module, pools)]


# scio: conformity of each class, larger for what is like the images of the fit


def _scio(model: nn.Module, x: Tensor, y: Tensor, *, kind: str, read: str, options: Any) -> Score:
    recorder = import_module("scio.recorder").Recorder(model, input_data=x[:1])
    names = {"several": layers(model), "last": layers(model)[-1:], "none": []}[read]
    modules = [model.get_submodule(name) for name in names]
    found = recorder.summary.summary_list
    recorder.record(*((i.depth, i.depth_index) for i in found if i.module in modules))
    score = getattr(import_module("scio.scores"), kind)(**options).fit(recorder, x, y)

    def predict(batch: Tensor) -> Tensor:
        logits, conformity = score(batch)
        return -conformity.gather(1, logits.argmax(1, keepdim=True))[:, 0]

    return predict


# values are those of the papers, as the library names them, where it has no default
_SCIO: dict[str, tuple[str, dict[str, Any]]] = {
    # of 256 by default, which take an hour
    "Odds": ("none", {"epsilon": 8 / 255, "noise_samples": 32}),
    "JTLA": ("several", {"test": {"type": "multinomial", "mode": "dcm", "k": 15}}),
    "LID": ("several", {"k": 20}),
    "FeatureSqueezing": ("none", {"squeezers": ("bits:5", "median:2")}),
    "Trust": ("last", {"alpha": 0.0}),
    "DkNN": ("several", {"k": _NEAREST}),
    "KNN": ("last", {"k": _NEAREST}),
    "DeepMahalanobis": ("last", {}),
    "RelativeMahalanobis": ("last", {}),
    "Gram": ("several", {}),
    "ReAct": ("last", {}),
    "ODIN": ("none", {"temperature": 1000.0, "epsilon": 0.0014}),
}


def _scio_detectors() -> dict[str, Fit]:
    import_module("scio.scores")
    return {
        kind: partial(_scio, kind=kind, read=read, options=options)
        for kind, (read, options) in _SCIO.items()
    }


# oodeel: larger for OOD


def _oodeel(model: nn.Module, x: Tensor, y: Tensor, *, kind: str) -> Score:
    options = {"nearest": _NEAREST} if kind == "DKNN" else {}
    detector = getattr(import_module("oodeel.methods"), kind)(**options)
    head = [n for n, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    names = {"Gram": layers(model)}.get(kind, ["penultimate"])
    if not detector.requires_internal_features:
        names = []
    loader = DataLoader(TensorDataset(x, y), batch_size=_BATCH)
    detector.fit(model, fit_dataset=loader, feature_layers_id=names, head_layer_id=head)
    return lambda batch: torch.as_tensor(detector.score(batch)[0])


def _oodeel_detectors() -> dict[str, Fit]:
    kinds = import_module("oodeel.methods").__all__
    return {kind: partial(_oodeel, kind=kind) for kind in kinds}


# torch-uncertainty: larger for OOD; of the criteria for ensembles, those of random answers


def _criterion(model: nn.Module, criterion: str) -> Score:
    """:param model: answers each image once or several times, all images at first"""
    ood = import_module("torch_uncertainty.ood_criteria")
    rule, kinds = ood.get_ood_criterion(criterion), ood.OODCriterionInputType

    @torch.no_grad()
    def predict(batch: Tensor) -> Tensor:
        logits = model(batch).unflatten(0, (-1, len(batch))).transpose(0, 1)
        if rule.input_type == kinds.LOGIT:
            return rule(logits)
        p = logits.softmax(-1)
        scores = rule(p if rule.input_type == kinds.ESTIMATOR_PROB else p.mean(1))
        rule.apply(lambda part: part.reset() if hasattr(part, "reset") else None)
        return scores

    return predict


def _single(model: nn.Module, x: Tensor, y: Tensor, *, criterion: str) -> Score:
    return _criterion(model, criterion)


def _dropout(model: nn.Module, x: Tensor, y: Tensor, *, criterion: str) -> Score:
    methods = import_module("torch_uncertainty.methods")
    return _criterion(methods.mc_dropout(model, _ESTIMATORS, on_batch=False).eval(), criterion)


def _batch_norm(model: nn.Module, x: Tensor, y: Tensor, *, criterion: str) -> Score:
    processing = import_module("torch_uncertainty.post_processing")
    several = processing.MCBatchNorm(model, num_estimators=_ESTIMATORS, device="cpu")
    several.fit(DataLoader(TensorDataset(x, y), batch_size=32))
    return _criterion(several.eval(), criterion)


def _deup(model: nn.Module, x: Tensor, y: Tensor) -> Score:
    deup = import_module("torch_uncertainty.post_processing").DEUP("classification", model)
    deup.fit(DataLoader(TensorDataset(x, y), batch_size=_BATCH))
    return lambda batch: deup(batch)


def _torch_uncertainty_detectors() -> dict[str, Fit]:
    import_module("torch_uncertainty.ood_criteria")
    single = {c: partial(_single, criterion=c) for c in ("msp", "logit", "energy", "entropy")}
    ensemble = ("mutual_information", "variation_ratio")
    return {
        **single,
        **{f"MC dropout, {c}": partial(_dropout, criterion=c) for c in ensemble},
        **{f"MC batch norm, {c}": partial(_batch_norm, criterion=c) for c in ensemble},
        "DEUP": _deup,
    }


LIBRARIES: dict[str, Callable[[], dict[str, Fit]]] = {
    "scio": _scio_detectors,
    "oodeel": _oodeel_detectors,
    "torch-uncertainty": _torch_uncertainty_detectors,
}


def scores(
    fit: Fit, model: nn.Module, x: Tensor, y: Tensor, groups: dict[str, Tensor]
) -> dict[str, np.ndarray]:
    """
    :param fit: of a detector
    :param model: classifier in evaluation mode; a detector gets a copy
    :return: scores by group
    :raises ValueError: where there is not one for each image, or one is NaN
    """
    torch.manual_seed(0)
    score, found = fit(model, x, y), {}
    for name, images in groups.items():
        parts = [torch.as_tensor(score(part)) for part in images.split(_BATCH)]
        found[name] = torch.cat(parts).detach().double().numpy()
        if found[name].shape != (len(images),):
            raise ValueError(f"{found[name].shape} scores for {len(images)} images")
        if np.isnan(found[name]).any():
            raise ValueError(f"NaN among the scores of {name}")
    return found


def missing(library: str, folder: Path) -> Iterator[tuple[str, Fit]]:
    """:return: detectors whose scores are not in the folder"""
    for name, fit in LIBRARIES[library]().items():
        if not (folder / f"{name}.npz").exists():
            yield name, fit


def run(library: str, folder: Path) -> None:
    """
    :param library: a key of ``LIBRARIES``
    :param folder: with ``model.pt`` and ``images.npz``; scores are in its folder of that name
    """
    out = folder / library
    out.mkdir(exist_ok=True)
    with np.load(folder / "images.npz") as stored:
        images = {name: torch.from_numpy(stored[name]) for name in stored}
    y = images.pop("labels").long()
    groups = {name: pixels.float() / 255 for name, pixels in images.items()}
    x = groups.pop("fit")
    versions = [f"{name} {metadata.version(name)}" for name in (library, "torch", "numpy")]
    (out / "versions").write_text(f"{', '.join(versions)}, Python {platform.python_version()}")
    for name, fit in missing(library, out):
        print(f"{library}: {name}", flush=True)
        model = torch.load(folder / "model.pt", weights_only=False).eval()
        (out / f"{name}.txt").unlink(missing_ok=True)
        try:
            np.savez(out / f"{name}.npz", **scores(fit, model, x, y, groups))
        except Exception as error:  # of foreign code: its row says so
            told = " ".join(f"{type(error).__name__}: {error}".split())
            (out / f"{name}.txt").write_text(told, encoding="utf-8")


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
