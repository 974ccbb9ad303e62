"""What enters a model in place of plain features: lazily masked features, placeholders for integer codes."""
