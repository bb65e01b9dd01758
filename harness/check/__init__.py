"""Everything that can be known to be wrong with a declaration before any work, all at once and without torch."""

from harness.check.suite import model_problems, problems

__all__ = ["model_problems", "problems"]
