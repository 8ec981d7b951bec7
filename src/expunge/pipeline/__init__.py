"""The verbs of the command line as functions: plan, forget, audit, attack, merge."""
