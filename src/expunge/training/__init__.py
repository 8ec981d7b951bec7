"""The engine: supplies what terms need, computes each thing once, and steps the weights."""
