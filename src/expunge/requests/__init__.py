"""From a name and a corpus to a request: search, facts, what is known, forms, neighbours."""
