"""Other tools' logs and numbers, beside ours."""
