"""
What a first layer does to its input, whatever class it is: the effective convolution of any layer
that is linear and shift-equivariant, from its weights or from its answers to impulses; and
convolutions in the precision that quiet directions need. Imports the rest of ``layer``.
"""

from .effective_convolution import EffectiveConvolution, Geometry
from .impulse_response import impulse_response

__all__ = ["EffectiveConvolution", "Geometry", "impulse_response"]
