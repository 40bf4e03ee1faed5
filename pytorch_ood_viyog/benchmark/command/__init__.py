"""
The command line, a module a command: ``python -m pytorch_ood_viyog.benchmark --help``. Imports
any room that the benchmark does.
"""

from .evasion import add_evasion
from .run import add_run
from .ways import add_ways

__all__ = ["add_evasion", "add_run", "add_ways"]
