"""Adaptive sweeps: the loop of interim looks, refinement and search. What a look drops is `reports/verdict/elimination.py`."""
