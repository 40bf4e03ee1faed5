"""
A benchmark as a page: what came out in three sentences, and images with what the best detector
makes of them. Imports ``evaluation`` and ``triage``.
"""

from .page import result_sections, summary
from .shown import ShownImages, best_detector

__all__ = ["ShownImages", "best_detector", "result_sections", "summary"]
