"""
Fidelity over sparsity
======================

What the prediction loses without the strongest bonds (up is better), and with nothing but them (down is better), for every
share of bonds that is left out. A single number hides where curves cross. (Saliency lies under EdgeAblation here.)
"""

import gnn_xai as gx

nitro = gx.datasets.load("nci_nitro")
comparison = gx.compare(
    nitro.model,
    nitro.data,
    ["saliency", "gnn_explainer", "edge_ablation"],
    ["sparsity"],
    index=nitro.index[:40],
    task=nitro.task,
    progress=False,
)
figure = comparison.curves()
