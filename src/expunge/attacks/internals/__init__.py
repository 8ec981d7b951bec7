"""Inside: what the states between the layers still say."""
