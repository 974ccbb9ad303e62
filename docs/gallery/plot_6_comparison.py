"""
Comparison of algorithms
========================

Mean and bootstrap interval of every algorithm; a filled dot is better than Random by the paired difference. The first
panel measures agreement with the planted truth, the other two ask the model.
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
