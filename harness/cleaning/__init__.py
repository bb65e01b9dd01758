"""What lies on the disk, what needs it, and the removal of what nothing needs."""
