"""Figures of explanations, with matplotlib: functions draw on axes and return them, and never show a figure."""

from gnn_xai.viz.captions import describe
from gnn_xai.viz.convergence import convergence
from gnn_xai.viz.features import features
from gnn_xai.viz.grid import grid
from gnn_xai.viz.layout import stress_layout
from gnn_xai.viz.subgraph import draw, drawn_graph

__all__ = ["convergence", "describe", "draw", "drawn_graph", "features", "grid", "stress_layout"]
