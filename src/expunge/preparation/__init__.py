"""From settings to everything that a run needs, before any weight is loaded."""
