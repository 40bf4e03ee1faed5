"""
One self-contained HTML page from plain data: texts, tables, figures and samples with their
verdicts. Needs the extra ``report``; knows neither detectors nor models.
"""

from .parts import KEPT, Card, Picture, Reading, Section, Table, worst_first
from .pictures import figure_picture, sample_pictures
from .writing import check_extra, machine, versions, write_page

__all__ = [
    "KEPT",
    "Card",
    "Picture",
    "Reading",
    "Section",
    "Table",
    "check_extra",
    "figure_picture",
    "machine",
    "sample_pictures",
    "versions",
    "worst_first",
    "write_page",
]
