"""Files, the console, registries and the machine: helpers that know nothing of models."""
