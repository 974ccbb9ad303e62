"""
A comparison
============

Mean and bootstrap interval of every algorithm; a full dot is better than Random, pair by pair. The first panel is what the
maker of the data says, the other two what the model says.
"""

import gnn_xai as gx

shapes = gx.datasets.load("ba_shapes")
comparison = gx.compare(
    shapes.model,
    shapes.data,
    ["saliency", "integrated_gradients", "smooth_grad", "gnn_explainer", "edge_ablation"],
    ["roc_auc", "fidelity"],
    index=shapes.index[::8],
    ground_truth=shapes.ground_truth,
    progress=False,
)
figure = comparison.draw()
