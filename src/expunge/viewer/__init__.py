"""A local, read-only web page over runs and benchmarks."""
