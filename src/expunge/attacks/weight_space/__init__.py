"""Weights: fine-tuning, mixing, pruning, rounding and changing them, then asking again."""
