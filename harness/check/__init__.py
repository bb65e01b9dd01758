"""Everything that can be known to be wrong with a declaration before any work, all at once and without torch. The plugin
and the command call it."""

from harness.check.phrases import nearest
from harness.check.suite import model_problems, problems

__all__ = ["model_problems", "nearest", "problems"]
