"""The attacks: each a small file that says what is asked, or what is done to the weights."""
