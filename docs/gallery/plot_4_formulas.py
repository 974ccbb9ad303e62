"""
Molecules as structural formulas
================================

Which atoms raise or lower a molecule's logP? The true contribution of every atom is known here (Crippen's scale); the
model was trained only on their sums. Orange raises logP, blue lowers it; all molecules share one colour scale.
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
