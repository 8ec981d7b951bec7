"""Evidence beyond one pass and one answer a record; each collector fills one kind of unit."""
