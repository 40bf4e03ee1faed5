"""
Ground floor: images from folders and files. Imports no other room.
"""

from .files import load_images

__all__ = ["load_images"]
