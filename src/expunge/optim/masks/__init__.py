"""Choices of the weights that may move."""
