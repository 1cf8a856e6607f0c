"""The networks: layers, the kinds of block, and the frame that grows."""
