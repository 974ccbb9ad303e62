"""
Four algorithms side by side
============================

Node 507 of BA-Shapes belongs to a house (bold outlines), and the house is the reason for its class. All panels have the
same layout, so they show where the algorithms agree.
"""

import gnn_xai as gx
from gnn_xai import viz

shapes = gx.datasets.load("ba_shapes")
motif = shapes.ground_truth.node
own = (motif == motif[507]).nonzero().flatten().tolist()
panels = [
    gx.explain(shapes.model, shapes.data, algorithm, index=507, progress=False)[0]
    for algorithm in (
        gx.Saliency(node_mask_type=None),
        gx.IntegratedGradients(node_mask_type=None),
        gx.GNNExplainer(node_mask_type=None),
        gx.EdgeAblation(),
    )
]
figure = viz.grid(panels, columns=2, top=20, mark=own, aligned=True)
