"""The data set: from its files to batches of real images."""
