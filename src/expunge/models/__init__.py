"""Models: load, look inside, adapt, score, generate, quantise, save."""
