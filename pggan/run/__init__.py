"""A whole run: the loop, its folder, its records, samples, checkpoints and report."""
