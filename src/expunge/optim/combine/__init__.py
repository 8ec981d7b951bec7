"""Ways to join the forget and the retain gradient of a step."""
