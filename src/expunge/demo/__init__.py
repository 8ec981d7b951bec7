"""The demo: a town's register of invented people, one of whom asks to be forgotten."""
