"""One suite over time."""
