"""
Ground floor: metrics with ADV as the positive class, bootstrap intervals, tables and figures of
scores, and in ``page`` one page of HTML with all of it. Imports no other room.
"""

from .bootstrap import metrics_with_intervals
from .metrics import ViyogMetrics, viyog_metrics
from .plotting import plot_auroc, plot_scores
from .residue_plot import plot_residue_map
from .rows import mean_auroc, pivot

__all__ = [
    "ViyogMetrics",
    "mean_auroc",
    "metrics_with_intervals",
    "pivot",
    "plot_auroc",
    "plot_residue_map",
    "plot_scores",
    "viyog_metrics",
]
