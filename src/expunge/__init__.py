"""expunge: make a language model forget, and show it."""
