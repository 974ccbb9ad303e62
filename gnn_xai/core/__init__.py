"""From a model and its data to scores: chunks of verified computation graphs, and three engines that run on them."""
