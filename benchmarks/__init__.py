"""Speed, size and memory of this package as ratios, peers beside it, measured in one run."""
