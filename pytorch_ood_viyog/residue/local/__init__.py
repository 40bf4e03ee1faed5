"""
Where in an image a residue is. ``regions`` (the noise floor of parts of an image), ``confined``
(what residues look like that fill a part only), ``evidence`` (all of a fit, and from a reading to
a score). Imports the rest of ``residue``.
"""

from .evidence import conclude_local, local_score, region_evidence
from .regions import Regions, floor_map

__all__ = ["Regions", "conclude_local", "floor_map", "local_score", "region_evidence"]
