"""Where work runs: connecting to a Ray cluster or starting a local one. Knows nothing of super-resolution."""
