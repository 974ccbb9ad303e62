"""Algorithms of this package inside `torch_geometric.explain`, and PyG's explanations as `Explanations`."""

from gnn_xai.pyg.recorded import read
from gnn_xai.pyg.wrapped import algorithm

__all__ = ["algorithm", "read"]
