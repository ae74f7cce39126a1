"""What the two face benchmarks share: pixels, table, data set, ResNet, ages, and drawn sample faces."""
