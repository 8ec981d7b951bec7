"""Rows of scores, computed from stored evidence."""
