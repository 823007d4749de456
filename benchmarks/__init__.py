"""Measure speed, size and memory of this package and its peers, as ratios from one run."""
