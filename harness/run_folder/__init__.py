"""A run folder on the disk: lock, image files, journal index, and the ledger that says what a resumed run need not do again."""
