"""Attacks that fine-tune the weights."""
