"""Settings and request: how they are read, layered and checked."""
