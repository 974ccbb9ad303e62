"""
Structural formulas
===================

Which atoms make a molecule's logP? The true share of every atom is known here (Crippen's scale), and the model has learned
it from sums alone. Orange raises logP, blue lowers it; all molecules share one scale.
"""

import gnn_xai as gx

logp = gx.datasets.load("nci_logp")
explanations = gx.explain(
    logp.model,
    logp.data,
    gx.IntegratedGradients(edge_mask_type=None),
    task=logp.task,
    index=logp.index[:6],
    progress=False,
)
figure = gx.molecules.grid(explanations, columns=3)
