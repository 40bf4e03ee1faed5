"""How libraries bring a photograph to 224 pixels, side by side."""

import importlib.metadata
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pytorch_ood_viyog.images import Way
from pytorch_ood_viyog.images.disk.decoding import as_rgb

__all__ = ["PIPELINES", "REFERENCE", "SIZE", "versions"]

SHORT, SIZE = 256, 224
REFERENCE = "Pillow"
LIBRARIES = (
    "torch",
    "torchvision",
    "Pillow",
    "opencv-python-headless",
    "pyvips-binary",
    "transformers",
    "timm",
)


def versions() -> str:
    """:return: libraries and their versions, those that are installed"""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def opened(data: bytes) -> Image.Image:
    """:return: the photograph"""
    return as_rgb(Image.open(io.BytesIO(data)))


def tensor(array: Any) -> Tensor:
    """:return: an image of bytes as one in [0, 1]"""
    return torch.from_numpy(np.array(array)).permute(2, 0, 1).float() / 255


def by_pillow(
    kind: str, first: Callable[[Image.Image], Image.Image] = lambda image: image
) -> Callable[[bytes], Tensor]:
    """:return: torchvision's transforms on Pillow images, after what happens to the source"""
    mode = v2.InterpolationMode(kind)
    steps = v2.Compose([v2.Resize(SHORT, mode), v2.CenterCrop(SIZE)])
    return lambda data: tensor(steps(first(opened(data))))


def by_torchvision(
    *, floats: bool = False, antialias: bool = True, rounded: bool = False
) -> Callable[[bytes], Tensor]:
    """:return: torchvision's transforms on tensors"""
    steps = v2.Compose([v2.Resize(SHORT, antialias=antialias), v2.CenterCrop(SIZE)])

    def brought(data: bytes) -> Tensor:
        pixels = functional.pil_to_tensor(opened(data))
        found = steps(pixels.float() / 255 if floats else pixels)
        found = found if floats else found.float() / 255
        return (found * 255).round() / 255 if rounded else found

    return brought


def by_opencv(kind: str) -> Callable[[bytes], Tensor]:
    """:return: OpenCV's decoder and ``resize``"""

    def brought(data: bytes) -> Tensor:
        import cv2

        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        scale = SHORT / min(height, width)
        size = (max(SHORT, int(width * scale)), max(SHORT, int(height * scale)))
        image = cv2.resize(image, size, interpolation=getattr(cv2, kind))[..., ::-1]
        return functional.center_crop(tensor(image), [SIZE, SIZE])

    return brought


def by_pyvips(data: bytes) -> Tensor:
    """:return: pyvips' thumbnail, cropped"""
    import pyvips

    header = opened(data).size
    scale = SHORT / min(header)
    width, height = (max(SHORT, int(side * scale)) for side in header)
    image = pyvips.Image.thumbnail_buffer(data, width, height=height, size="force")
    return functional.center_crop(tensor(image.colourspace("srgb").numpy()), [SIZE, SIZE])


def by_transformers(name: str, **options: Any) -> Callable[[bytes], Tensor]:
    """:return: an image processor of transformers, without its normalisation"""

    def brought(data: bytes) -> Tensor:
        import transformers

        processor = getattr(transformers, name)(do_normalize=False, **options)
        found = processor(opened(data), return_tensors="pt")["pixel_values"][0]
        return found.clamp(0, 1)

    return brought


def by_timm(data: bytes) -> Tensor:
    """:return: what timm evaluates most models with"""
    from timm.data import create_transform

    steps = create_transform(SIZE, interpolation="bicubic", normalize=False)
    found = steps(opened(data))
    return found.float() / (255 if found.dtype == torch.uint8 else 1)


def letterboxed(data: bytes) -> Tensor:
    """:return: all of the photograph between grey bars"""
    image = opened(data)
    side = max(image.size)
    square = Image.new("RGB", (side, side), (114, 114, 114))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return tensor(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def then(name: str) -> Callable[[bytes], Tensor]:
    """:return: the Pillow way, and a way of the package at 224 pixels"""
    first, way = by_pillow("bilinear"), Way(name)
    return lambda data: way(first(data)[None])[0]


def halved(image: Image.Image) -> Image.Image:
    """:return: the photograph as a thumbnail, which is enlarged afterwards"""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR)


def saved(image: Image.Image) -> Image.Image:
    """:return: the photograph as a JPEG file of less colour"""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling="4:2:0")
    return Image.open(file)


#: name -> what gives an image in [0, 1] for the bytes of a photograph
PIPELINES: dict[str, Callable[[bytes], Tensor]] = {
    REFERENCE: by_pillow("bilinear"),
    "letterbox": letterboxed,
    "torchvision, floats": by_torchvision(floats=True),
    "torchvision, floats, rounded": by_torchvision(floats=True, rounded=True),
    "torchvision, bytes": by_torchvision(),
    "torchvision, bytes, no antialias": by_torchvision(antialias=False),
    "OpenCV INTER_LINEAR": by_opencv("INTER_LINEAR"),
    "OpenCV INTER_CUBIC": by_opencv("INTER_CUBIC"),
    "OpenCV INTER_AREA": by_opencv("INTER_AREA"),
    "half-size source": by_pillow("bilinear", halved),
    "JPEG 95 4:2:0 source": by_pillow("bilinear", saved),
    "WebP 80 at 224": then("WebP 80"),
    "palette 256 at 224": then("palette 256"),
    "JPEG 95 4:2:0 at 224": then("JPEG 95 4:2:0"),
    "JPEG 75 at 224": then("JPEG 75"),
    "AVIF 60 at 224": then("AVIF 60"),
    "Pillow bicubic": by_pillow("bicubic"),
    "Pillow Lanczos": by_pillow("lanczos"),
    "pyvips thumbnail": by_pyvips,
    "timm create_transform": by_timm,
    "transformers ViT": by_transformers("ViTImageProcessor"),
    "transformers ViT, Pillow": by_transformers("ViTImageProcessorPil"),
}
