"""A run folder read into a Run: which records count, which are void and why."""
