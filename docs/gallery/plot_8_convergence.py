"""
Convergence of learned masks
============================

The terms of GNNExplainer's loss over epochs: means over fifty nodes, and a band with the middle 80 % of their totals.
The default of a hundred epochs is not enough for this model.
"""

import gnn_xai as gx

shapes = gx.datasets.load("ba_shapes")
trace = gx.Trace()
gx.explain(
    shapes.model,
    shapes.data,
    gx.GNNExplainer(epochs=300, node_mask_type=None),
    index=shapes.index[::8],
    callback=trace,
    progress=False,
)
figure = trace.draw().figure
