"""Asking: the question in other words, other roles, other languages, or begun for the model."""
