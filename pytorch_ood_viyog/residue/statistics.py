"""
What ViyogResidue keeps of its ID data: a sample of feature maps and the range of the inputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..fitting import content_sample
from ..fitting.fitted import Statistics
from ..images.kind import ImageKind, common_step, level_steps
from ..layer.linear.effective_convolution import EffectiveConvolution, Geometry
from ..layer.precision import full_precision
from .windows import Windows

__all__ = ["convolution_of", "dynamic_range", "kind_of", "measure", "merge"]

# memory that the sample of maps may take
_SAMPLE_BYTES = 2**27
_FEWEST_SAMPLES = 64
_VECTORS = 65536


def measure(
    conv: EffectiveConvolution, maps: Tensor, inputs: Tensor | None, sample_size: int, seed: int
) -> Statistics:
    """
    :param conv: what the layer does
    :param maps: its raw maps for a batch of ID samples
    :param inputs: its inputs, where they are known
    :param sample_size: number of samples to keep
    :param seed: seed of their choice
    :return: ``sample``, packed maps of the chosen samples, and their ``priority``; ``low`` and
        ``high``, extremes of the inputs per channel, infinite where unknown; ``step`` between
        their levels, see :func:`~pytorch_ood_viyog.images.kind.common_step`; ``shape`` and
        ``input_shape``, the spatial shapes of the maps and of the inputs, zeros where unknown;
        ``kernel``, ``bias`` and ``geometry`` of the layer
    """
    shape = tuple(maps.shape[2:])
    packed = full_precision(Windows.of(conv.geometry, shape).pack(maps))
    priority = content_sample.priorities(maps if inputs is None else inputs, seed)
    priority, sample = content_sample.draw(priority, packed, _capacity(packed, sample_size))
    low, high = _extremes(inputs, conv.in_channels, maps.device)
    unknown = torch.full_like(low, torch.inf)
    return {
        "priority": priority,
        "sample": sample,
        "low": low,
        "high": high,
        "step": unknown if inputs is None else common_step(level_steps(inputs)),
        "shape": torch.tensor(shape),
        "input_shape": torch.tensor([0] * len(shape) if inputs is None else inputs.shape[2:]),
        "kernel": conv.kernel,
        "bias": conv.bias,
        "geometry": conv.geometry.to_tensor(),
    }


def convolution_of(statistics: Statistics) -> EffectiveConvolution:
    """:return: the layer that made the maps of these statistics"""
    geometry = Geometry.from_tensor(statistics["geometry"])
    return EffectiveConvolution(statistics["kernel"], statistics["bias"], geometry)


def kind_of(statistics: Statistics) -> ImageKind:
    """:return: what kind of images the layer's inputs are"""
    step, size = statistics["step"], statistics["input_shape"]
    return ImageKind(
        statistics["low"],
        statistics["high"],
        torch.where(torch.isfinite(step), step, -1.0),
        tuple(size.tolist()) if bool((size > 0).all()) else (),
    )


def merge(one: Statistics, other: Statistics, sample_size: int) -> Statistics:
    """:return: statistics of both sets of ID samples, whatever their order"""
    if not torch.equal(one["shape"], other["shape"]):
        raise ValueError(
            f"All feature maps of a fit must have one size, got {one['shape'].tolist()} and "
            f"{other['shape'].tolist()}. Resize or crop the inputs to one size."
        )
    priority, sample = content_sample.merge(
        (one["priority"], one["sample"]),
        (other["priority"], other["sample"]),
        _capacity(one["sample"], sample_size),
    )
    device = one["low"].device
    layer = {name: one[name] for name in ("kernel", "bias", "geometry")}
    return layer | {
        "priority": priority,
        "sample": sample,
        "low": torch.minimum(one["low"], other["low"].to(device)),
        "high": torch.maximum(one["high"], other["high"].to(device)),
        "step": common_step(torch.stack([one["step"], other["step"].to(device)])),
        "input_shape": torch.minimum(one["input_shape"], other["input_shape"]),
        "shape": one["shape"],
        "count": one["count"] + other["count"].to(device),
    }


def dynamic_range(
    conv: EffectiveConvolution, statistics: Statistics, given: float | Sequence[float] | None
) -> Tensor:
    """
    :return: dynamic range of each input channel: as the user gave it, as read from the inputs, or
        where only maps were seen, from the inputs that the convolution's least-squares inverse
        gives
    :raises ValueError: if the inputs are all the same
    """
    low, high = statistics["low"], statistics["high"]
    if not bool(torch.isfinite(low).all()):
        low, high = _reconstructed_extremes(conv, statistics["sample"])
    widths = high - low
    if not bool(widths.max() > 0):
        raise ValueError(
            f"All ID inputs are of one colour, {low.tolist()}: nothing can be learnt from them. "
            f"Look at what the loader yields."
        )
    if given is not None:
        widths = torch.as_tensor(given, dtype=low.dtype, device=low.device)
        if widths.numel() not in (1, conv.in_channels):
            raise ValueError(
                f"input_range must be one number or one for each of the {conv.in_channels} "
                f"channels of the convolution's input, got {widths.numel()}."
            )
        return widths.expand(conv.in_channels)
    widest = widths.max()
    # a constant channel tells nothing of its range: it gets that of the widest
    return torch.where(widths > 0, widths, widest)


def _capacity(packed: Tensor, sample_size: int) -> int:
    fitting = _SAMPLE_BYTES // (4 * packed.shape[1:].numel())
    return min(sample_size, max(_FEWEST_SAMPLES, fitting))


def _extremes(inputs: Tensor | None, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    if inputs is None:
        unknown = torch.full((channels,), torch.inf, dtype=torch.float64, device=device)
        return unknown, -unknown
    low, high = torch.aminmax(inputs.transpose(0, 1).flatten(1), dim=1)
    return low.double(), high.double()


def _reconstructed_extremes(conv: EffectiveConvolution, maps: Tensor) -> tuple[Tensor, Tensor]:
    inverse = torch.linalg.pinv(conv.kernel.flatten(1))
    vectors = maps.movedim(1, -1).reshape(-1, maps.shape[1])
    vectors = vectors[:: max(1, len(vectors) // _VECTORS)].double()
    patches = ((vectors - conv.bias) @ inverse.T).reshape(len(vectors), conv.in_channels, -1)
    return patches.amin(dim=(0, 2)), patches.amax(dim=(0, 2))
