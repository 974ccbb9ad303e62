"""
Nodes in their computation graphs
=================================

Three members of Zachary's karate club: what would change if a tie were gone? Red supports the class, blue speaks against
it, the ring marks the node that is explained.
"""

import gnn_xai as gx
from gnn_xai import viz

karate = gx.datasets.load("karate")
explanations = gx.explain(karate.model, karate.data, "edge_ablation", index=[0, 16, 33], progress=False)
figure = viz.grid(explanations, columns=3, top=25, class_names=karate.class_names)
