"""Questions about molecules that take several explanations: differences, ensembles, tasks. Public as `gnn_xai.molecules`."""
