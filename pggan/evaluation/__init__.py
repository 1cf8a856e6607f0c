"""Samples of a generator, and how they compare with real images."""
