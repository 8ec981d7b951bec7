"""Benchmarks: the field's data read and checked, a matrix of runs, one table on one protocol."""
