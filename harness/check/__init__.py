"""All problems of a declaration that can be found before any work, at once and without torch."""

from harness.check.own_rows import load_rows
from harness.check.suite import model_problems, problems

__all__ = ["load_rows", "model_problems", "problems"]
