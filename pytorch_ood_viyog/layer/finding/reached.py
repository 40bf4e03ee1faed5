"""
How a forward pass is ended at a layer.
"""

__all__ = ["LayerReached"]


class LayerReached(BaseException):
    """Ends a forward pass; no ``Exception``, so that the model's own handlers let it through."""
