"""Measures of sets of images: feature spaces, distances, diversity, copies, and the verdict."""
