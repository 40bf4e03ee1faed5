"""
One self-contained HTML page from plain data: texts, tables, figures and samples with their
verdicts. Needs the extra ``report``; knows neither detectors nor models.
"""

from .origin import machine, origin, versions
from .parts import Card, Page, Picture, Reading, Section, Table
from .pictures import figure_picture, image_picture, map_picture, sample_pictures
from .writing import check_extra, write_page

__all__ = [
    "Card",
    "Page",
    "Picture",
    "Reading",
    "Section",
    "Table",
    "check_extra",
    "figure_picture",
    "image_picture",
    "machine",
    "map_picture",
    "origin",
    "sample_pictures",
    "versions",
    "write_page",
]
