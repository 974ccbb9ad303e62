"""From a question to masks: problem, neighborhoods, packing, and the engines that run a model under masks."""
