"""Ways to compute one convolution over time faster on a CPU than oneDNN does."""
