"""Pure statistics on tables and arrays."""
