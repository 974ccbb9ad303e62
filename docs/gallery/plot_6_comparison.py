"""
A comparison of algorithms
==========================

Nodes of BA-Shapes: means with bootstrap intervals over instances. A full dot is better than random scores, pair by pair.
"""

import gnn_xai as gx

ba = gx.datasets.load("ba_shapes")
comparison = gx.compare(
    ba.model,
    ba.data,
    algorithms=["saliency", "integrated_gradients", "edge_ablation", gx.GNNExplainer(epochs=30)],
    metrics=["roc_auc", "fidelity"],
    index=ba.index[:60],
    ground_truth=ba.ground_truth,
    progress=False,
)
figure = comparison.draw()
