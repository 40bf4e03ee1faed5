"""
A benchmark as tables, and as parts of a page: what came out in three sentences, and images with
what the best detector makes of them. Imports ``evaluation`` and ``triage``.
"""

from .page import best_detector, result_sections, shown_sections, summary
from .tables import save_tables, write_csv

__all__ = [
    "best_detector",
    "result_sections",
    "save_tables",
    "shown_sections",
    "summary",
    "write_csv",
]
