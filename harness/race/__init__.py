"""Adaptive sweeps: the loop of interim looks, refinement and search."""
