"""
Feature importance
==================

Feature ablation on the karate club: a bar says how much the margin drops if the feature is set to zero on all nodes.
The features are the members.
"""

import gnn_xai as gx
from gnn_xai import viz

karate = gx.datasets.load("karate")
explanations = gx.explain(karate.model, karate.data, "feature_ablation", index=16, progress=False)
figure = viz.features(explanations[0], top=8, feature_names=karate.feature_names).figure
