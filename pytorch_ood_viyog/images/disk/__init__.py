"""
Images as people have them: folders, lists of files, arrays; how each is decoded.
"""

from .files import ImageFiles, load_images, readable_images

__all__ = ["ImageFiles", "load_images", "readable_images"]
