"""Algorithms side by side: a table of metrics with intervals and paired differences."""

from gnn_xai.comparison.cells import Cell, interval
from gnn_xai.comparison.compare import compare
from gnn_xai.comparison.table import Comparison

__all__ = ["Cell", "Comparison", "compare", "interval"]
