"""Sampling: many answers instead of one, and the probability of extraction."""
