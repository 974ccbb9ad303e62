"""Preparation, and the three engines: learn masks, evaluate variants, differentiate."""
