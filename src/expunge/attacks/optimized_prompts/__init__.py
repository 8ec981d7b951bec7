"""Prompts found by gradients: they take the weights, and work on them."""
