"""Explanations and what becomes of them: columns, tables, files, runs on disk, ground truth."""
