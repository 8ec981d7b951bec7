"""Forget gradients taken elsewhere than at the weights, so that the result is harder to undo."""
