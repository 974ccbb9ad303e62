"""
Molecules as graphs
===================

The graph that the model sees, laid out as a chemist draws it. What is red is lost with the bond: an aromatic nitro group.
"""

import gnn_xai as gx
from gnn_xai import viz

nitro = gx.datasets.load("nci_nitro")
bonds = gx.explain(nitro.model, nitro.data, "edge_ablation", task="graph", index=nitro.index[:3], progress=False)
each = [{"layout": viz.depiction(nitro.data[e.index].smiles), "node_labels": nitro.node_names[e.index]} for e in bonds]
figure = viz.grid(bonds, columns=3, each=each, class_names=nitro.class_names)
