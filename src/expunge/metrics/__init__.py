"""Pure functions of stored evidence, and one registry that describes them."""
