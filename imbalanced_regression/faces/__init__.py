"""What the two face benchmarks share."""
