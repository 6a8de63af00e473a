"""Charts with their data as the answer, drawn by matplotlib or ECharts."""

from .engine import main, make, parser

__all__ = ["main", "make", "parser"]
