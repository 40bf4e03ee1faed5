"""
Ground floor: metrics with ADV as the positive class, bootstrap intervals, tables and figures of
scores, and in ``page`` one page of HTML with all of it. Imports no other room.
"""

from .metrics import ViyogMetrics, viyog_metrics
from .residue_plot import plot_residue_map

__all__ = ["ViyogMetrics", "plot_residue_map", "viyog_metrics"]
