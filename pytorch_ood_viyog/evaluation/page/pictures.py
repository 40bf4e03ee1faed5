"""
Pictures that travel inside a page. Need Pillow, which the extra ``report`` brings.
"""

import base64
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from ..plotting import pyplot
from .parts import Picture

__all__ = ["figure_picture", "image_picture", "map_picture", "pillow", "sample_pictures"]

# residue that has the brightest colour of a map: twice the usual budget of an attack
_MAP_TOP = 16 / 255
# larger pictures are made smaller, so that some dozen of them fit into a page
_LONGEST = 224
# up to here pixels are counted: kept as they are, and shown as squares
_SMALL = 64
_JPEG_QUALITY = 85


def image_picture(image: Tensor, alt: str) -> Picture | None:
    """
    :param image: shape :math:`C \\times H \\times W`, values in [0, 1]
    :param alt: what it shows
    :return: the picture, lossless up to 64 pixels, at most 224 pixels wide and high; ``None`` for
        what is no image of one or three channels
    """
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        return None
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().byte()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    return _picture(pillow().fromarray(array), alt)


def map_picture(strengths: Tensor, alt: str) -> Picture:
    """
    :param strengths: residue at each place as a fraction of the input's range, shape
        :math:`H \\times W`
    :param alt: what it shows
    :return: the picture, with the scale as its caption
    """
    colours = pyplot().get_cmap("inferno")
    shares = (strengths.detach().cpu().double() / _MAP_TOP).clamp(0, 1)
    drawn = pillow().fromarray(colours(shares.numpy(), bytes=True)[..., :3].copy())
    middle, most = (255 * float(v) for v in (strengths.median(), strengths.max()))
    caption = (
        f"residue in 1/255, black 0 to bright {255 * _MAP_TOP:.0f}: median {middle:.1f}, "
        f"most {most:.1f}"
    )
    return _picture(drawn, alt, caption)


def sample_pictures(image: Tensor, residue: Tensor | None, title: str) -> tuple[Picture, ...]:
    """:return: the image of a sample, if it is one, and the map of its residue, if there is one"""
    shown = image_picture(image, title)
    found = () if shown is None else (shown,)
    if residue is None:
        return found
    return (*found, map_picture(residue, f"Residue at each place of {title}"))


def figure_picture(draw: Callable[[Path], Any], alt: str) -> Picture:
    """:return: what ``draw`` writes to a PNG file, as it is"""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "figure.png"
        draw(file)
        content = file.read_bytes()
    with pillow().open(BytesIO(content)) as opened:
        return Picture(_address(content, "png"), opened.size, alt)


def _picture(drawn: Any, alt: str, caption: str = "") -> Picture:
    drawn.thumbnail((_LONGEST, _LONGEST))  # keeps what is smaller
    small = max(drawn.size) <= _SMALL
    kind = "png" if small else "jpeg"
    file = BytesIO()
    drawn.save(file, kind, **({"optimize": True} if small else {"quality": _JPEG_QUALITY}))
    return Picture(_address(file.getvalue(), kind), drawn.size, alt, caption, small)


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def pillow() -> Any:
    """:return: the module ``PIL.Image``"""
    try:
        return import_module("PIL.Image")
    except ImportError as error:
        raise ImportError(
            "Pictures need Pillow: pip install 'pytorch-ood-viyog[report]'"
        ) from error
