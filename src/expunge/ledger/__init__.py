"""The ledger: every model, request, run and claim of an operator, in one file that only grows."""
