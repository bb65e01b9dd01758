"""Shared by all tests: a run within a test must not write into the summary of the job that runs the tests."""

import os

os.environ.pop("GITHUB_STEP_SUMMARY", None)
