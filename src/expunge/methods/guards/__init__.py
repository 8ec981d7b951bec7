"""Guards: rules around an unchanged model, each in its own file. They suppress, never remove."""
