"""
Explanations of nodes
=====================

Edge ablation for three members of Zachary's karate club, each in its computation graph: what would change if an edge
were gone? Red edges support the class, blue edges speak against it, and a ring marks the explained node.
"""

import gnn_xai as gx
from gnn_xai import viz

karate = gx.datasets.load("karate")
explanations = gx.explain(karate.model, karate.data, "edge_ablation", index=[0, 16, 33], progress=False)
figure = viz.grid(explanations, columns=3, top=25, class_names=karate.class_names)
