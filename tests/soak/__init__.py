"""Long runs: make soak."""
