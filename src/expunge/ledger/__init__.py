"""The ledger: what was asked, what was claimed, and what people and authorities get of it."""
