"""
A subgraph and shares that add up
=================================

A graph of BA-2motifs with a five-node cycle (bold outlines): the connected subgraph of highest Shapley value, by tree
search (left, 1 or 0), and the Shapley value of every node among connected coalitions (right, signed; the values add up).
"""

import gnn_xai as gx
from gnn_xai import viz

motifs = gx.datasets.load("ba_2motifs")
own = list(range(20, 25))
panels = [
    gx.explain(motifs.model, motifs.data, algorithm, task=motifs.task, index=[700], progress=False)[0]
    for algorithm in (
        gx.SubgraphX(samples=20, rollouts=5),
        gx.Shapley(players="nodes", coalitions="connected", samples=16),
    )
]
figure = viz.grid(panels, columns=2, mark=own, aligned=True)
