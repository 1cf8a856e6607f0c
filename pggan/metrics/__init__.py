"""What is measured: quality, diversity, and whether the pictures are copies."""
