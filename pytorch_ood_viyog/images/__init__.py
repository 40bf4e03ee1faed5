"""
Ground floor: images from folders and files, what happens to images without anybody meaning harm
(``benign``: noise, codecs, filters, each with a strength), the ways that they take to a model
(``ways``), and what kind of images they are by then (``kind``). Imports no other room.
"""

from .benign import BENIGN_KINDS, BenignChange
from .disk.files import load_images
from .kind import WayWarning, is_rounded
from .ways import Way, apply_ways

__all__ = [
    "BENIGN_KINDS",
    "BenignChange",
    "Way",
    "WayWarning",
    "apply_ways",
    "is_rounded",
    "load_images",
]
