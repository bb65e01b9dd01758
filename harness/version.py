"""The version of Sweetspot, as it is written into run folders and files."""

__version__ = "0.1.0"
"""Sweetspot's version."""
