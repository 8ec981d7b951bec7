"""Quick attacks that an audit makes beside its own questions."""
