"""A whole run: the loop, its folder, and what is saved, drawn and reported once in a while."""
