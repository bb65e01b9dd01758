"""Adaptive sweeps: sequential elimination, refinement and search."""
