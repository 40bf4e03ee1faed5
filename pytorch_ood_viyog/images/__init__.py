"""
Ground floor: images from folders and files, and what happens to images without anybody meaning
harm (``benign``: noise, codecs, filters, each with a strength). Imports no other room.
"""

from .benign import BENIGN_KINDS, BenignChange
from .files import load_images

__all__ = ["BENIGN_KINDS", "BenignChange", "load_images"]
