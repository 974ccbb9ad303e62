"""
Fidelity over sparsity
======================

How much the prediction drops without the strongest bonds (fidelity+, higher is better) and with only these (fidelity−,
lower is better), for every share of bonds that is left out. A single number would hide where curves cross. The curve of
Saliency lies under that of EdgeAblation here.
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
