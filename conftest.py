"""Shared by suites/ and tests/: nothing of ours may reach for a network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

pytest_plugins = ["pytester"]
