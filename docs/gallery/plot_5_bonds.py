"""
Molecules as graphs
===================

The graph that the model sees, laid out like the structural formula. The log-odds of an aromatic nitro group drop if a
red bond is removed.
"""

import gnn_xai as gx
from gnn_xai import molecules, viz

nitro = gx.datasets.load("nci_nitro")
bonds = gx.explain(nitro.model, nitro.data, "edge_ablation", task="graph", index=nitro.index[:3], progress=False)
options = [
    {"layout": molecules.depiction(nitro.data[e.index].smiles), "node_labels": nitro.node_names[e.index]} for e in bonds
]
figure = viz.grid(bonds, columns=3, panel_options=options, class_names=nitro.class_names)
