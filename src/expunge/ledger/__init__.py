"""The ledger: every model, request, run and claim of an operator, and what others get of it."""
