"""The data as flat ids, and the computation graphs of many outputs cut out of it."""
