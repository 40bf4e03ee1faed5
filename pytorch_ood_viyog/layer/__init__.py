"""
Ground floor: the user's model. Finds its first layer, runs it up to there, reads what passes, and
leaves mode, hooks and random state as found; what a convolution is and in what precision it is
computed; which arguments, batches and maps are accepted. Imports no other room.
"""

from .first_layer import FirstLayer
from .hooks import PassHooks
from .layer_call import LayerCall
from .manners import as_found, same_random_state, unwrap
from .outputs import LayerOutputs

__all__ = [
    "FirstLayer",
    "LayerCall",
    "LayerOutputs",
    "PassHooks",
    "as_found",
    "same_random_state",
    "unwrap",
]
