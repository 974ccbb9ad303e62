"""
Fidelity over sparsity
======================

The strongest edges of nodes of BA-Shapes: what the prediction loses without them (fidelity+), and with nothing but them
(fidelity−), over how many edges are left out.
"""

import gnn_xai as gx

ba = gx.datasets.load("ba_shapes")
algorithms = ["saliency", "integrated_gradients", "edge_ablation", gx.GNNExplainer(epochs=30)]
comparison = gx.compare(ba.model, ba.data, algorithms, ["fidelity"], index=ba.index[:60], progress=False)
figure = comparison.curves()
