"""A run folder on the disk: lock, ledger, journal index and image files."""
