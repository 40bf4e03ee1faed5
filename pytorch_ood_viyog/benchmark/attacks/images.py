"""
What goes into an attack and what comes out of it: labels in any form, images in any form.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["class_number", "class_numbers", "returned_images", "round_to_8_bit"]

_REMEDY = "Labels must be class numbers 0, 1, 2, ..."


def round_to_8_bit(x: Tensor) -> Tensor:
    """:return: the nearest images that 8 bit can store, :math:`\\mathrm{round}(255 x) / 255`"""
    return (x.clamp(0, 1) * 255).round() / 255


def class_number(label: Any, whose: str) -> int:
    """:return: the class that a number, a tensor or an array tells, whose it is for the message"""
    value = label
    if isinstance(label, (Tensor, np.ndarray, np.generic)):
        if (held := np.asarray(label)).size != 1:
            one_hot = held.size > 1 and held.dtype.kind in "biuf" and _one_hot(torch.tensor(held))
            kind = "one-hot: give labels.argmax(1)" if one_hot else f"of shape {held.shape}"
            raise ValueError(f"{_REMEDY} {whose} has a label that is {kind}.")
        value = held.item()
    if not isinstance(value, (int, float)) or not float(value).is_integer():
        raise ValueError(f"{_REMEDY} {whose} has the label {value!r}.")
    return int(value)


def class_numbers(labels: Any) -> Tensor:
    """:return: class numbers (N,), int64, of a tensor, an array or a list"""
    try:
        given = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{_REMEDY} They cannot be read: {error}.") from error
    if given.dim() == 2 and _one_hot(given):
        raise ValueError(f"{_REMEDY} They are one-hot: give labels.argmax(1).")
    if given.is_floating_point() and bool((given != given.floor()).any()):
        raise ValueError(f"{_REMEDY} Among them is {float(given[given != given.floor()][0]):g}.")
    return given.long()


def _one_hot(labels: Tensor) -> bool:
    rows = labels.reshape(-1, labels.shape[-1])
    return bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(1) == 1).all())


def returned_images(returned: Any, x: Tensor) -> Tensor:
    """
    The images that an attack returned, of the shape, type and device of those it was given: as a
    tensor or an array of any floating-point type, or the only such in a tuple; of foolbox's
    ``(raw, clipped, success)`` the clipped ones.
    """
    if isinstance(returned, (tuple, list)):
        returned = _of_several(returned, x)
    returned = getattr(returned, "raw", returned)  # eagerpy, beneath foolbox
    if isinstance(returned, np.ndarray):
        returned = torch.from_numpy(np.ascontiguousarray(returned))
    if not isinstance(returned, Tensor):
        raise TypeError(f"An attack must return images, got {type(returned).__name__}.")
    if returned.shape != x.shape or not returned.is_floating_point():
        raise ValueError(
            f"An attack must return images, floating point in [0, 1] of shape {tuple(x.shape)}, "
            f"got shape {tuple(returned.shape)} of {returned.dtype}."
        )
    return returned.detach().to(x)


def _of_several(returned: tuple[Any, ...] | list[Any], x: Tensor) -> Any:
    images = [part for part in returned if getattr(part, "shape", None) == x.shape]
    if len(returned) == 3 and len(images) == 2:
        return images[1]
    if len(images) == 1:
        return images[0]
    if len(returned) == 0:
        return None
    raise ValueError(
        f"An attack must return one image for each: give it one budget. It returned "
        f"{len(returned)} values, {len(images)} of them of the images' shape {tuple(x.shape)}."
    )
