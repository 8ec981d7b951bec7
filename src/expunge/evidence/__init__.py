"""What models said: the schema, the store, and the collector."""
