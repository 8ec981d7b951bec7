"""What a run computes and costs, before any weight moves."""
