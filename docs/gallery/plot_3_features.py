"""
Which features
==============

The features of the karate club are its members. Setting one to zero everywhere says what the model makes of it.
"""

import gnn_xai as gx
from gnn_xai import viz

karate = gx.datasets.load("karate")
explanations = gx.explain(karate.model, karate.data, "feature_ablation", index=16, progress=False)
figure = viz.features(explanations[0], top=8, feature_names=karate.feature_names).figure
