"""Tensors and nothing else: ragged arrays, keyed random numbers, sparse products, batches within a memory budget."""
