"""Optimisers: what turns a gradient into a step."""
