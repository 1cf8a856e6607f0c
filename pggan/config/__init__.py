"""Every setting of a run: what there is, the presets, what goes together, and the command line. No torch here."""
