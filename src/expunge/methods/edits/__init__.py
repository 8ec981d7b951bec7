"""Edits: methods that work on weights directly, one a file. `expunge.methods.EDITS` lists them."""
