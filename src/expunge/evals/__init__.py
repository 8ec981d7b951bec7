"""The audit: evidence, metrics, gates, verdict."""
